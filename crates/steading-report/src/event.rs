//! What can happen in a run.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steading_logs::VmEvent;

use crate::Summary;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is known what will be done.
    Planned {
        /// The suite.
        suite: String,
        /// What it needs.
        resources: String,
        /// Its VMs.
        vms: Vec<PlannedVm>,
        /// What executes instructions.
        acceleration: String,
        /// Why that.
        reason: String,
    },
    /// A VM's image is made ready.
    Preparing {
        /// The VM.
        vm: String,
        /// What is done for it, and how far that is.
        step: ImageStep,
    },
    /// Something about the testnet that was kept after it had booted, or is to be.
    Warm {
        /// What.
        what: String,
    },
    /// The testnet of a function that failed was kept in a file.
    Kept {
        /// The function.
        name: String,
        /// The file.
        file: String,
    },
    /// The group waits until this machine has room for it, beside those of others.
    Queued {
        /// What it waits for.
        needs: String,
        /// Its place among those that wait, and how many these are; none until it has one.
        place: Option<(usize, usize)>,
        /// Who holds what.
        held: String,
    },
    /// It has waited, and there is room now.
    Admitted {
        /// What is reserved for it.
        needs: String,
        /// How long it waited.
        seconds: f64,
    },
    /// All inputs are ready, and the VMs that start with the group are started.
    Starting,
    /// Something happened to a VM.
    Vm {
        /// The VM.
        vm: String,
        /// What.
        sign: VmSign,
    },
    /// A function has begun.
    Started {
        /// Its name.
        name: String,
    },
    /// A function has begun to wait for something, or goes on.
    Waiting {
        /// Its name.
        name: String,
        /// For what, if it waits.
        what: Option<String>,
    },
    /// A function printed a line.
    Line {
        /// Its name.
        name: String,
        /// The line.
        text: String,
    },
    /// A function has ended, or was left out.
    Ended {
        /// Its name.
        name: String,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: f64,
    },
    /// An attempt of a test has failed, and there is another.
    Retried {
        /// Its name.
        name: String,
        /// How it failed.
        failure: Failure,
        /// Which attempt begins now, and how many there may be.
        attempt: (u32, u32),
    },
    /// Somebody asked what is going on.
    Waits {
        /// What runs.
        functions: Vec<Wait>,
        /// The VMs, each with how it does.
        vms: Vec<(String, String)>,
    },
    /// A function had left processes running, which were then ended.
    Left {
        /// Its name.
        name: String,
        /// Their command lines.
        processes: Vec<String>,
    },
    /// Somebody wants the run to end.
    Interrupted {
        /// For the second time: at once.
        again: bool,
        /// How long what runs may take to end by itself.
        grace: Duration,
    },
    /// The program that was run inside the testnet has ended, and the testnet with it.
    CommandEnded {
        /// Its exit status.
        status: u8,
        /// Where the logs are.
        log_dir: String,
    },
    /// The testnet stays up.
    Staying {
        /// Where its control API listens.
        socket: String,
        /// The process number of its owner, if that is on this machine.
        owner: Option<i32>,
    },
    /// Something is not as it should be, and costs nothing yet.
    Warning {
        /// What.
        message: String,
    },
    /// Something went wrong outside of any function.
    Error {
        /// What.
        message: String,
    },
    /// Everything is over.
    Finished {
        /// The sum of it.
        summary: Summary,
        /// Where the logs are.
        log_dir: String,
        /// The page that shows them, if there is one.
        report: Option<String>,
        /// The command that runs the first failed test again and keeps its testnet.
        again: Option<String>,
    },
}

/// A VM of a plan.
#[derive(Clone, Debug)]
pub struct PlannedVm {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv6Addr,
    /// Whether it starts with the group.
    pub autostart: bool,
}

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

/// A sign of life or death of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSign {
    /// Its console said something for the first time in this boot.
    Spoke,
    /// Anything that the log calls an event.
    Event(VmEvent),
}

/// How far an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStep {
    /// Its digest is computed.
    Hashing {
        /// How much of it, in percent.
        percent: u64,
    },
    /// It is unpacked.
    Unpacking {
        /// How much of it, in percent.
        percent: u64,
        /// How much was written, in MiB.
        mib: u64,
    },
    /// Another process unpacks it.
    Waiting,
}

impl fmt::Display for ImageStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashing { percent } => write!(f, "its image is hashed, {percent} %"),
            Self::Unpacking { percent, mib } => write!(f, "its image is unpacked, {percent} %, {mib} MiB"),
            Self::Waiting => f.write_str("its image is unpacked by somebody else, whom we wait for"),
        }
    }
}

impl fmt::Display for VmSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spoke => f.write_str("it boots"),
            Self::Event(event) => event.fmt(f),
        }
    }
}

/// A function that runs.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Its name.
    pub name: String,
    /// How long it has been running, in seconds.
    pub seconds: f64,
    /// What it waits for, and for how many seconds, if it does.
    pub what: Option<(String, f64)>,
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
    /// A word for styles, and what there is to say beside.
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
