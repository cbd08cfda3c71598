//! One QEMU process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use rustix::process::{Pid, Signal};
use steading_plan::{Beginning, Handle, QemuCommand, QemuFacts, VmPlan};
use steading_sys::process::{Program, Started};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::frozen::FrozenMachine;
use super::{EngineError, FrozenVm, GuestMemory, QEMU_PACKAGE, VmFiles, pipes};
use crate::agent::GuestAgent;
use crate::thaw::ThawPort;

/// The number of the state that a frozen VM's QEMU process takes in.
pub const STATE_NUMBER: u32 = Handle::State.number();

/// A QEMU process that was just started, with our ends of its sockets. It may yet fail.
#[derive(Debug)]
pub struct Machine {
    /// The process.
    pub pid: Pid,
    /// Its monitor: give it to [`crate::qmp::Qmp::connect`].
    pub monitor: UnixStream,
    /// The guest's serial console.
    pub console: UnixStream,
    /// The guest's agent, if it has one.
    pub agent: GuestAgent,
    /// The guest's program that is told when it goes on after a freeze, where there are freezes.
    pub thaw: Option<ThawPort>,
    /// What QEMU says on its error output, unless whoever started it keeps that.
    pub errors: Option<pipe::Receiver>,
    /// The guest's memory, if it is in a file of ours.
    pub memory: Option<GuestMemory>,
}

impl Machine {
    /// Starts QEMU, to boot the guest. Its end is learnt by whoever reaps the caller's children.
    ///
    /// # Errors
    ///
    /// When QEMU is not installed or the kernel refuses.
    pub fn start(vm: &VmPlan, facts: &QemuFacts, files: &VmFiles) -> Result<Self, EngineError> {
        let bytes = u64::from(vm.spec.memory_mib) << 20;
        let memory = GuestMemory::new(bytes).map_err(|source| memory_error(vm, source))?;
        Self::launch(vm, facts, files, memory, None)
    }

    /// Starts QEMU, to go on from a VM that was frozen while it was on: it then waits to be told to
    /// take in its state ([`crate::qmp::Qmp::load_state`], number [`STATE_NUMBER`]), which it reads from
    /// a pipe. The caller must be within a runtime.
    ///
    /// # Errors
    ///
    /// When the VM was off, when QEMU is not installed or the kernel refuses.
    pub fn go_on(
        vm: &VmPlan,
        facts: &QemuFacts,
        files: &VmFiles,
        frozen: &FrozenVm,
    ) -> Result<Self, EngineError> {
        let machine = frozen.machine().and_then(|machine| machine.ok_or(io::ErrorKind::NotFound.into()));
        let FrozenMachine { memory, state } = machine.map_err(|source| memory_error(vm, source))?;
        let state = pipes::out_of_file(state).map_err(|source| memory_error(vm, source))?;
        Self::launch(vm, facts, files, GuestMemory::frozen(memory), Some(state))
    }

    fn launch(
        vm: &VmPlan,
        facts: &QemuFacts,
        files: &VmFiles,
        memory: GuestMemory,
        state: Option<OwnedFd>,
    ) -> Result<Self, EngineError> {
        let socket = |source| EngineError::Socket { vm: vm.name.clone(), source };
        let beginning = Beginning { frozen: state.is_some(), layers: files.layer_count() };
        let mut fds = files.duplicates().map_err(socket)?;
        let memory_file = memory.file().try_clone().map_err(|source| memory_error(vm, source))?;
        fds.push((memory_file.into(), Handle::Memory.number()));
        fds.extend(state.map(|state| (state, STATE_NUMBER)));
        let mut pair = |handle: Handle| -> io::Result<UnixStream> {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            fds.push((OwnedFd::from(theirs), handle.number()));
            UnixStream::from_std(ours)
        };
        let monitor = pair(Handle::Qmp).map_err(socket)?;
        let console = pair(Handle::Console).map_err(socket)?;
        let agent = GuestAgent::new(pair(Handle::Agent).map_err(socket)?);
        let thaw = Some(ThawPort::new(pair(Handle::Thaw).map_err(socket)?));
        let program = Program {
            argv: QemuCommand::derive(vm, facts, beginning).argv().to_vec(),
            package: Some(QEMU_PACKAGE),
            env: large_pages(),
            cwd: None,
            fds,
            network_capabilities: false,
        };
        let Started { pid, stderr, .. } =
            program.start().map_err(|source| EngineError::Start { vm: vm.name.clone(), source })?;
        let errors = pipe::Receiver::from_owned_fd(stderr.into()).map_err(socket)?;
        Ok(Self { pid, monitor, console, agent, thaw, errors: Some(errors), memory: Some(memory) })
    }
}

/// Has QEMU's C library ask for large pages for what it allocates, where the kernel gives them on request. It is the GNU C
/// Library's matter (tunables, 2.35 and later); others pass over it. What somebody has set is left.
fn large_pages() -> Vec<(String, String)> {
    const VARIABLE: &str = "GLIBC_TUNABLES";
    match std::env::var_os(VARIABLE) {
        Some(_) => Vec::new(),
        None => vec![(VARIABLE.to_owned(), "glibc.malloc.hugetlb=1".to_owned())],
    }
}

fn memory_error(vm: &VmPlan, source: io::Error) -> EngineError {
    EngineError::Memory { vm: vm.name.clone(), mib: vm.spec.memory_mib, source }
}

/// Pulls the plug: the guest learns nothing of it.
///
/// # Errors
///
/// When there is no such process any more.
pub fn kill(pid: Pid) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(pid, Signal::KILL)?)
}
