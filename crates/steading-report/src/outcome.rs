//! How functions ended, and what a run had for that.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was reserved for a run on the machine that it shared with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reserved {
    /// The number of its ticket: those with smaller ones came first.
    pub ticket: u64,
    /// CPUs.
    pub cpus: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Since when.
    pub since: Timestamp,
    /// How long it waited for that.
    pub waited_seconds: f64,
}

/// How a function ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It returned `Ok`.
    Passed,
    /// It returned `Ok`, but not at first.
    Flaky {
        /// Which attempt passed.
        attempt: u32,
        /// How the one before failed.
        before: Failure,
    },
    /// It did not.
    Failed(Failure),
    /// It was not run.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// How a function failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// It returned an error.
    Returned,
    /// It exited before it returned.
    Exited {
        /// The exit status.
        status: i32,
    },
    /// It panicked.
    Panicked,
    /// A signal ended it: it aborted, overflowed its stack, or was killed from outside.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It took too long.
    TimedOut {
        /// The limit.
        seconds: u64,
        /// It was the limit of the whole run.
        overall: bool,
    },
    /// Somebody ended the run.
    Interrupted,
    /// A rule was broken.
    Rule {
        /// By what.
        reason: String,
    },
    /// The group failed it.
    Group {
        /// How.
        reason: String,
    },
}

impl Outcome {
    /// A word for styles, and the details.
    pub(crate) fn class_and_detail(&self) -> (&'static str, String) {
        match self {
            Self::Passed => ("passed", String::new()),
            Self::Flaky { attempt, before } => {
                ("flaky", format!("passed at attempt {attempt}; the one before {before}"))
            }
            Self::Failed(failure) => ("failed", failure.to_string()),
            Self::Skipped { reason } => ("skipped", reason.clone()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("returned an error"),
            Self::Exited { status } => write!(f, "exited with status {status} before it returned"),
            Self::Panicked => f.write_str("panicked"),
            Self::Signal { signal: 6 } => f.write_str("aborted (signal 6)"),
            Self::Signal { signal } => write!(f, "was ended by signal {signal}"),
            Self::TimedOut { seconds, overall: false } => {
                write!(f, "did not end within its limit of {seconds} s")
            }
            Self::TimedOut { seconds, overall: true } => {
                write!(f, "ran into the whole run's limit of {seconds} s")
            }
            Self::Interrupted => f.write_str("was interrupted"),
            Self::Rule { reason } => f.write_str(reason),
            Self::Group { reason } => write!(f, "could not be run: {reason}"),
        }
    }
}
