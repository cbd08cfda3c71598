//! One QEMU process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use rustix::process::{Pid, Signal};
use steading_plan::{Handle, VmPlan};
use steading_sys::process::{Program, Started};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::{EngineError, QEMU_PACKAGE, VmFiles};
use crate::agent::GuestAgent;

/// A QEMU process that was just started, with our ends of its sockets. It may yet fail.
#[derive(Debug)]
pub struct Machine {
    /// The process; it leads a process group of the same number.
    pub pid: Pid,
    /// Its monitor: give it to [`crate::qmp::Qmp::connect`].
    pub monitor: UnixStream,
    /// The guest's serial console.
    pub console: UnixStream,
    /// The guest's agent, if it has one.
    pub agent: GuestAgent,
    /// What QEMU says on its error output.
    pub errors: pipe::Receiver,
}

impl Machine {
    /// Starts QEMU as planned. Its end is learnt by whoever reaps the caller's children.
    ///
    /// # Errors
    ///
    /// When QEMU is not installed or the kernel refuses.
    pub fn start(vm: &VmPlan, files: &VmFiles) -> Result<Self, EngineError> {
        let socket = |source| EngineError::Socket { vm: vm.name.clone(), source };
        let mut fds = files.duplicates().map_err(socket)?;
        let mut pair = |handle: Handle| -> io::Result<UnixStream> {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            fds.push((OwnedFd::from(theirs), handle.number()));
            UnixStream::from_std(ours)
        };
        let monitor = pair(Handle::Qmp).map_err(socket)?;
        let console = pair(Handle::Console).map_err(socket)?;
        let agent = GuestAgent::new(pair(Handle::Agent).map_err(socket)?);
        let program = Program {
            argv: vm.qemu.argv().to_vec(),
            package: Some(QEMU_PACKAGE),
            env: Vec::new(),
            cwd: None,
            fds,
            network_capabilities: false,
        };
        let Started { pid, stderr, .. } =
            program.start().map_err(|source| EngineError::Start { vm: vm.name.clone(), source })?;
        let errors = pipe::Receiver::from_owned_fd(stderr.into()).map_err(socket)?;
        Ok(Self { pid, monitor, console, agent, errors })
    }
}

/// Pulls the plug: the guest learns nothing of it.
///
/// # Errors
///
/// When there is no such process any more.
pub fn kill(pid: Pid) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(pid, Signal::KILL)?)
}
