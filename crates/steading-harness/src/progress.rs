//! How far the unpacking of images is, in a few lines rather than in thousands of steps.

use std::time::{Duration, Instant};

use steading_plan::VmName;
use steading_report::{Event, ImageStep, Report};
use steading_vm::image::Progress as Step;

/// The time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(3);

/// The same, where a line changes in place.
const LIVE_INTERVAL: Duration = Duration::from_millis(100);

/// Reports steps from time to time.
pub(crate) struct ImageProgress<'a> {
    report: &'a Report,
    told: Option<Instant>,
    began: Instant,
}

impl<'a> ImageProgress<'a> {
    pub(crate) fn new(report: &'a Report) -> Self {
        Self { report, told: None, began: Instant::now() }
    }

    /// Takes a step. Steps that end at once are not reported.
    pub(crate) fn tell(&mut self, vm: &VmName, step: Step) {
        let interval = if self.report.is_live() { LIVE_INTERVAL } else { INTERVAL };
        if self.told.unwrap_or(self.began).elapsed() < interval && !matches!(step, Step::Waiting) {
            return;
        }
        self.told = Some(Instant::now());
        self.report.tell(&Event::Preparing { vm: vm.to_string(), step: shown(step) });
    }
}

fn shown(step: Step) -> ImageStep {
    let percent = |done: u64, of: u64| done.saturating_mul(100).checked_div(of).unwrap_or(0);
    match step {
        Step::Hashing { done, total } => ImageStep::Hashing { percent: percent(done, total) },
        Step::Unpacking { read, total_read, written } => {
            ImageStep::Unpacking { percent: percent(read, total_read), mib: written >> 20 }
        }
        Step::Waiting => ImageStep::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shown_with_how_far_they_are() {
        let step = Step::Unpacking { read: 1, total_read: 4, written: 3 << 20 };
        assert_eq!(shown(step).to_string(), "its image is unpacked, 25 %, 3 MiB");
        assert_eq!(shown(Step::Hashing { done: 0, total: 0 }).to_string(), "its image is hashed, 0 %");
    }
}
