//! Counts requests to end: the first asks, the second does not ask any more.

use std::time::{Duration, Instant};

use steading_sys::signal::Received;

/// Signals of one sender within this time are one request: timeout(1) sends each to the program, and to its
/// process group.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// Signals within this time are one request, no matter who sends them: Ctrl-C reaches timeout(1) as well, which
/// passes it on.
const ONE_KEY: Duration = Duration::from_millis(100);

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    count: u32,
    last: Option<(Option<i32>, Instant)>,
}

impl Interrupts {
    /// None so far, but for one that has just been answered otherwise.
    pub(crate) fn after(now: Instant) -> Self {
        Self { count: 0, last: Some((None, now)) }
    }

    /// Which request this signal is, the first being 1; none if it belongs to the one before.
    pub(crate) fn take(&mut self, received: Received, now: Instant) -> Option<u32> {
        let sender = received.sender;
        if let Some((before, at)) = self.last {
            let passed = now.saturating_duration_since(at);
            let is_same_sender = sender.is_some() && sender == before;
            if passed < ONE_KEY || (is_same_sender && passed < ONE_REQUEST) {
                return None;
            }
        }
        self.last = Some((sender, now));
        self.count += 1;
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;

    /// Which requests signals are, each with its sender and when it came, in milliseconds.
    fn requests(signals: &[(Option<i32>, u64)]) -> Vec<Option<u32>> {
        let (mut interrupts, began) = (Interrupts::default(), Instant::now());
        let received = |sender| Received { signal: Signal::INT, sender };
        signals
            .iter()
            .map(|(sender, ms)| interrupts.take(received(*sender), began + Duration::from_millis(*ms)))
            .collect()
    }

    #[test]
    fn timeout_which_sends_a_signal_twice_asks_once() {
        assert_eq!(requests(&[(Some(7), 0), (Some(7), 1)]), [Some(1), None]);
        assert_eq!(requests(&[(Some(7), 0), (Some(7), 900), (Some(7), 1100)]), [Some(1), None, Some(2)]);
    }

    #[test]
    fn a_key_that_another_program_passes_on_is_one_request() {
        assert_eq!(requests(&[(None, 0), (Some(7), 2), (Some(7), 3)]), [Some(1), None, None]);
    }

    #[test]
    fn a_key_that_is_typed_twice_is_two_requests() {
        assert_eq!(requests(&[(None, 0), (None, 200)]), [Some(1), Some(2)]);
    }
}
