//! The processor's time stamp counter.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long it is compared with the clock.
const SPAN: Duration = Duration::from_millis(5);

/// Readings that took longer were interrupted, and prove nothing.
const READING: Duration = Duration::from_micros(1);

/// How many readings are tried. Others run on this processor, too.
const TRIES: u32 = 1000;

/// How often it counts in a second, in MHz; none where that cannot be told. On a busy host two
/// measurements may differ by one; a kernel that is given one measures more exactly by itself.
pub fn frequency_mhz() -> Option<u32> {
    let (began, first) = reading()?;
    let (ended, last) = loop {
        let (now, count) = reading()?;
        if now.checked_sub(began)? >= SPAN {
            break (now, count);
        }
    };
    let counts = u128::from(last.checked_sub(first)?);
    let nanos = ended.checked_sub(began)?.as_nanos();
    // Counts in a microsecond, rounded.
    let mhz = (counts * 1000 + nanos / 2) / nanos;
    u32::try_from(mhz).ok().filter(|mhz| *mhz > 0)
}

/// The counter, and the time at which it was read. That is the raw clock, which nobody adjusts.
fn reading() -> Option<(Duration, u64)> {
    for _ in 0..TRIES {
        let before = now()?;
        // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
        let count = unsafe { core::arch::x86_64::_rdtsc() };
        let took = now()?.checked_sub(before)?;
        if took <= READING {
            return Some((before + took / 2, count));
        }
    }
    None
}

fn now() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::MonotonicRaw)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_hardly_differ() {
        let first = frequency_mhz().expect("it can be told");
        for _ in 0..5 {
            assert!(frequency_mhz().expect("it can be told").abs_diff(first) <= 1);
        }
    }
}
