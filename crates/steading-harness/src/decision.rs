//! What the runner does next when an attempt at a function has ended, when somebody interrupts the run, and when the
//! group's owner has ended. Nothing here reads a clock, a signal or a process, so every history can be tried.

use steading_report::{Failure, Outcome, Summary};

use crate::exit_code;
use crate::suite::Role;

/// How one attempt at a function ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Its process ended, with this status or by this signal.
    Process { status: Option<i32>, signal: Option<i32> },
    /// The group failed it, for this reason; how its process ends is not known.
    Lost { reason: String },
}

/// What the end of one attempt means by itself. `cut_short` is why the runner ended it, if it did, and outweighs how it
/// ended; `skip` is the reason that the function noted for a skip.
pub(crate) fn outcome(end: AttemptEnd, cut_short: Option<&Failure>, skip: Option<&str>) -> Outcome {
    const PANICKED: i32 = 101;
    let [ok, error, skipped] =
        [exit_code::RETURNED_OK, exit_code::RETURNED_ERROR, exit_code::RETURNED_SKIP].map(i32::from);
    if let Some(failure) = cut_short {
        return Outcome::Failed(failure.clone());
    }
    Outcome::Failed(match (end, skip) {
        (AttemptEnd::Lost { reason }, _) => Failure::Group { reason },
        (AttemptEnd::Process { status: Some(status), .. }, _) if status == ok => return Outcome::Passed,
        (AttemptEnd::Process { status: Some(status), .. }, Some(reason)) if status == skipped => {
            return Outcome::Skipped { reason: reason.to_owned() };
        }
        (AttemptEnd::Process { status: Some(status), .. }, _) if status == error => Failure::Returned,
        (AttemptEnd::Process { status: Some(PANICKED), .. }, _) => Failure::Panicked,
        (AttemptEnd::Process { status: Some(status), .. }, _) => Failure::Exited { status },
        (AttemptEnd::Process { status: None, signal }, _) => Failure::Signal { signal: signal.unwrap_or(0) },
    })
}

/// How many attempts a function has, with its own retries and those of the run. Setups and teardowns have one: what they
/// did half cannot be undone.
pub(crate) fn attempts(role: Role, own_retries: u32, run_retries: u32) -> u32 {
    match role {
        Role::Test => own_retries.max(run_retries).saturating_add(1),
        Role::Setup | Role::Teardown => 1,
    }
}

/// What follows from the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another attempt, of this number, since the last one failed so.
    Retry { number: u32, failure: Failure },
    /// There is no other attempt, and this is the function's outcome.
    Final(Outcome),
}

/// What has happened to a run as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// Only the testnet is up: nothing runs until somebody ends that.
    is_staying: bool,
    is_interrupted: bool,
    owner_has_ended: bool,
}

/// What an interrupt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// The testnet does not stay any longer; teardowns run.
    Leave,
    /// Functions are asked to end, but for teardowns.
    EndFunctions,
    /// The group is killed, and nothing runs any more.
    Kill,
}

impl Course {
    /// Whether the testnet stays up with nothing to run.
    pub(crate) fn is_staying(self) -> bool {
        self.is_staying
    }

    /// Whether the run was interrupted, rather than only left by who looked at the testnet.
    pub(crate) fn is_interrupted(self) -> bool {
        self.is_interrupted
    }

    /// Whether everything that was to run has run, as far as interrupts and the owner are concerned.
    pub(crate) fn is_whole(self) -> bool {
        !self.is_interrupted && !self.owner_has_ended
    }

    /// All has run that was to, and the testnet stays up.
    pub(crate) fn stay(&mut self) {
        self.is_staying = true;
    }

    /// The run is interrupted for the `count`th time, from 1.
    pub(crate) fn interrupt(&mut self, count: u32) -> OnInterrupt {
        if std::mem::take(&mut self.is_staying) {
            return OnInterrupt::Leave;
        }
        self.is_interrupted = true;
        if count > 1 { OnInterrupt::Kill } else { OnInterrupt::EndFunctions }
    }

    /// The group's owner has ended. Returns why nothing is started any more.
    pub(crate) fn end_owner(&mut self) -> &'static str {
        if self.is_staying {
            // `down` in another terminal ends what only stays.
            return "the group was torn down";
        }
        self.owner_has_ended = true;
        "the group has ended"
    }

    /// What follows from the end of attempt `number` of at most `attempts`; `before` is how the one before it failed.
    /// Nothing is tried again once the run is ending: interrupted, without an owner, or out of time.
    pub(crate) fn after_attempt(
        self,
        outcome: Outcome,
        (number, attempts): (u32, u32),
        before: Option<Failure>,
        is_time_over: bool,
    ) -> Decision {
        let is_ending = !self.is_whole() || is_time_over;
        match (outcome, before) {
            (Outcome::Failed(failure), _) if number < attempts && !is_ending => {
                Decision::Retry { number: number + 1, failure }
            }
            (Outcome::Passed, Some(before)) => Decision::Final(Outcome::Flaky { attempt: number, before }),
            (outcome, _) => Decision::Final(outcome),
        }
    }

    /// The exit status of the run: the worst that happened decides. Who only looks at a testnet may end that
    /// (`counts_interrupts` is false).
    pub(crate) fn exit_code(self, summary: &Summary, counts_interrupts: bool) -> u8 {
        if self.is_interrupted && counts_interrupts {
            exit_code::INTERRUPTED
        } else if summary.has_failed_setup() {
            exit_code::SETUP_FAILED
        } else if summary.failed() > 0 || self.owner_has_ended {
            exit_code::FAILED
        } else if summary.flaky() > 0 {
            exit_code::FLAKY
        } else {
            exit_code::PASSED
        }
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
