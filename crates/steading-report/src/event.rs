//! What can happen in a run.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use steading_logs::VmEvent;

use crate::outcome::{Failure, Outcome};
use crate::summary::Summary;

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
    /// The group waits until this machine has room for it next to those of others.
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
