//! A machine that was started, and what its engine needs to start it.

use std::fmt;
use std::sync::Arc;

use camino::Utf8Path;
use rustix::process::Pid;
use steading_plan::{Plan, VmPlan};
use steading_sys::processes::{ExitWatch, Processes};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::control::{Boxed, Control};
use super::error::EngineError;
use super::files::VmFiles;
use super::frozen::FrozenVm;
use crate::agent::GuestAgent;

/// What runs the machines of one group. [`set_up`](super::set_up) makes it.
pub trait VmEngine: fmt::Debug + Send + Sync {
    /// Starts a machine, to boot its guest. It may end at any time from then on.
    fn start<'a>(&'a self, vm: Start<'a>) -> Boxed<'a, Result<Machine, EngineError>>;

    /// Starts a machine that goes on from one that was frozen while it was on. Its CPUs are paused if they
    /// were.
    fn go_on<'a>(&'a self, vm: Start<'a>, frozen: &'a FrozenVm) -> Boxed<'a, Result<Machine, EngineError>> {
        let _ = frozen;
        Box::pin(async move { Err(EngineError::NoFreeze { vm: vm.plan.name.clone() }) })
    }
}

/// What the engine of a group is set up with.
#[derive(Debug)]
pub struct EngineConfig<'a> {
    /// The plan of the group.
    pub plan: &'a Plan,
    /// The open files of VMs that start by themselves, each with its place in the plan.
    pub files: Vec<(u32, &'a VmFiles)>,
    /// The line of sshd's authorized_keys that lets the driver log in.
    pub authorized_key: &'a str,
    /// The processes of the group.
    pub processes: Processes,
    /// The directory of the group's logs.
    pub log_dir: &'a Utf8Path,
    /// The private directory of the group.
    pub directory: &'a Utf8Path,
    /// Where warnings for the log go.
    pub warnings: mpsc::UnboundedSender<String>,
}

/// A VM that is to start.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Its place in the plan of its group.
    pub index: u32,
    /// Its plan.
    pub plan: &'a VmPlan,
    /// Its open files.
    pub files: &'a VmFiles,
    /// The number of the boot.
    pub boot: u32,
}

/// A machine that was started, with its connections to the group.
#[derive(Debug)]
pub struct Machine {
    /// The process that runs it, if it has one of its own.
    pub pid: Option<Pid>,
    /// Its end.
    pub exit: ExitWatch,
    /// Its controls.
    pub control: Arc<dyn Control>,
    /// What happens to it.
    pub events: MachineEvents,
    /// The guest's serial console.
    pub console: UnixStream,
    /// The guest's agent, if it has one.
    pub agent: Option<GuestAgent>,
    /// Its error output, unless that is kept elsewhere.
    pub errors: Option<pipe::Receiver>,
    /// Tasks that end with it, with what they know of the reason.
    pub tasks: JoinSet<String>,
}

/// The events of a machine, in their order.
pub type MachineEvents = mpsc::UnboundedReceiver<MachineEvent>;

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The CPUs are paused.
    Paused,
    /// The CPUs run.
    Resumed,
    /// The guest has powered off. The machine ends, unless it is told to stay
    /// ([`Control::stay_when_off`]).
    GuestOff,
    /// The machine boots again.
    Reset,
    /// The guest's kernel has panicked.
    Panicked,
    /// The guest has suspended itself, to memory or to its disk.
    Suspended,
    /// The guest goes on after it had suspended itself.
    Woken,
    /// A disk could not be read or written.
    DiskError {
        /// `read` or `write`.
        operation: String,
        /// Why.
        reason: String,
        /// Whether the host's disk is full.
        no_space: bool,
    },
}
