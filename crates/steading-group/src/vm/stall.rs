//! Whether a guest hangs in its boot.
//!
//! A guest that hangs early says nothing and has no address, and a wait for it would only run out of time.
//! From outside two kinds can be seen. One computes without an end: its console is silent, and a
//! thread of its QEMU process always wants a CPU. The other never began: it has said nothing since it was turned
//! on, and its CPU is idle. A guest that has its address is left alone: it may compute and be silent as it likes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use steading_sys::stat::Stat;
use tokio::time::{Instant, sleep_until};

/// How often a guest is looked at until it has its address.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks in silence until a guest that computes is taken to hang: a minute. Decompressing a kernel or an initial
/// RAM disk takes a fraction of that, also under emulation on a busy host.
const SPINNING: u32 = 12;

/// Looks until one that has said nothing and does nothing is taken to have nothing to boot: half a minute.
const IDLE: u32 = 6;

/// What is known of a guest's present boot by those who listen to it.
#[derive(Debug, Default)]
pub(super) struct BootProgress {
    /// Bytes on its console.
    said: AtomicU64,
    reached: AtomicBool,
}

impl BootProgress {
    /// It boots.
    pub(super) fn begins(&self) {
        self.said.store(0, Ordering::Relaxed);
        self.reached.store(false, Ordering::Relaxed);
    }

    /// So many bytes have come from its console.
    pub(super) fn has_said(&self, bytes: usize) {
        self.said.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Its network answers.
    pub(super) fn is_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }
}

/// What is wrong with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallVerdict {
    /// It computes in silence.
    Spins,
    /// It has not begun.
    Idle,
}

impl StallVerdict {
    /// For people, about "it". `last` is the last line of its console.
    pub(super) fn told(self, last: Option<&str>) -> String {
        match (self, last.map(str::trim).filter(|last| !last.is_empty())) {
            (Self::Spins, Some(last)) => {
                format!(
                    "its guest seems to hang: no console output for {} s while its CPU is busy, after {last:?}",
                    seconds(SPINNING)
                )
            }
            (Self::Spins, None) => {
                format!(
                    "its guest seems to hang: no console output for {} s while its CPU is busy",
                    seconds(SPINNING)
                )
            }
            (Self::Idle, _) => {
                format!(
                    "its guest seems not to boot: no console output for {} s, and its CPU is idle",
                    seconds(IDLE)
                )
            }
        }
    }

    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Spins => {
                "its kernel or firmware may not get along with this QEMU or its emulated CPU; `steading console` shows all that it said"
            }
            Self::Idle => {
                "check that it has enough memory, a disk or kernel that boots, and its console on the first serial port (console=ttyS0)"
            }
        }
    }
}

fn seconds(looks: u32) -> u64 {
    PERIOD.as_secs() * u64::from(looks)
}

/// Looks at a guest until it has its address, or something is found.
#[derive(Debug)]
pub(super) struct Stall {
    next: Instant,
    said: u64,
    /// Looks in a row in which its console said nothing and its CPU was busy, or idle.
    busy: u32,
    idle: u32,
    is_over: bool,
}

impl Default for Stall {
    fn default() -> Self {
        Self { next: Instant::now() + PERIOD, said: 0, busy: 0, idle: 0, is_over: false }
    }
}

impl Stall {
    /// Ends when it is time for a look; never, when there is nothing to look for.
    pub(super) async fn due(&self) {
        if self.is_over {
            std::future::pending::<()>().await;
        }
        sleep_until(self.next).await;
    }

    /// Looks at the guest of this QEMU process. What is found is returned once.
    pub(super) fn look(&mut self, life: &BootProgress, process: Pid) -> Option<StallVerdict> {
        self.next = Instant::now() + PERIOD;
        let pid = process.as_raw_nonzero().get();
        let is_busy = Stat::of_threads(pid).any(|thread| thread.is_runnable());
        self.judge(life.said.load(Ordering::Relaxed), life.reached.load(Ordering::Relaxed), is_busy)
    }

    fn judge(&mut self, said: u64, reached: bool, is_busy: bool) -> Option<StallVerdict> {
        if reached {
            self.is_over = true;
            return None;
        }
        if said != self.said {
            (self.said, self.busy, self.idle) = (said, 0, 0);
            return None;
        }
        (self.busy, self.idle) = if is_busy { (self.busy + 1, 0) } else { (0, self.idle + 1) };
        let verdict = match () {
            () if self.busy >= SPINNING => StallVerdict::Spins,
            () if self.idle >= IDLE && said == 0 => StallVerdict::Idle,
            () => return None,
        };
        self.is_over = true;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in looks at what the console has said, and whether the CPU is busy.
    fn judged(looks: impl IntoIterator<Item = (u64, bool)>) -> Option<StallVerdict> {
        let mut stall = Stall::default();
        looks.into_iter().find_map(|(said, is_busy)| stall.judge(said, false, is_busy))
    }

    #[tokio::test]
    async fn a_guest_whose_cpu_spins_in_silence_is_named() {
        let spins = std::iter::once((100, true)).chain([(100, true); SPINNING as usize]);
        assert_eq!(judged(spins), Some(StallVerdict::Spins));
        let text = StallVerdict::Spins.told(Some("LSM: Security Framework initializing"));
        assert!(text.contains("60 s") && text.contains("LSM: Security"), "{text}");
    }

    #[tokio::test]
    async fn one_that_never_says_a_word_and_rests_is_named_sooner() {
        assert_eq!(judged([(0, false); IDLE as usize]), Some(StallVerdict::Idle));
        // One that waits at a prompt has said so.
        assert_eq!(judged([(50, false); 100]), None);
    }

    #[tokio::test]
    async fn one_that_speaks_now_and_then_or_rests_now_and_then_boots() {
        let speaks = (0..200).map(|look| (look / u64::from(SPINNING - 1), true));
        assert_eq!(judged(speaks), None);
        let rests = (0..200).map(|look| (100, look % 10 != 0));
        assert_eq!(judged(rests), None);
    }

    #[tokio::test]
    async fn one_that_has_its_address_may_compute_in_silence() {
        let mut stall = Stall::default();
        assert_eq!(stall.judge(100, true, true), None);
        assert!(stall.is_over);
    }
}
