//! QEMU processes: how one starts, and how its power is cut.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use rustix::process::Pid;
use steading_plan::{Handle, Launch, QemuCommand, VmPlan};
use steading_sys::process::{Program, Started};
use steading_sys::processes::{ExitWatch, Processes};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use super::control::{QemuControl, events, kill};
use super::memory::GuestMemory;
use super::save::{Migration, load};
use super::{QEMU_PACKAGE, pipes};
use crate::agent::GuestAgent;
use crate::engine::control::Boxed;
use crate::engine::error::EngineError;
use crate::engine::frozen::{FrozenMachine, FrozenVm};
use crate::engine::machine::{EngineConfig, Machine, MachineEvents, Start, VmEngine};
use crate::qmp::Qmp;
use crate::thaw::ThawPort;

/// The engine of a group whose owner starts QEMU.
#[derive(Debug)]
pub(in crate::engine) struct Qemu {
    processes: Processes,
}

impl Qemu {
    pub(in crate::engine) fn new(config: EngineConfig<'_>) -> Self {
        Self { processes: config.processes }
    }

    async fn boot(&self, vm: Start<'_>) -> Result<Machine, EngineError> {
        let bytes = u64::from(vm.plan.spec.memory_mib) << 20;
        let memory = GuestMemory::new(bytes).map_err(|source| memory_error(vm.plan, source))?;
        let command = command(vm)?;
        let process = self.spawn(vm, &command, &memory, None)?;
        process.connect(vm, memory).await
    }

    /// QEMU waits to be told to load its state, which it reads from a pipe.
    async fn fork(&self, vm: Start<'_>, frozen: &FrozenVm) -> Result<Machine, EngineError> {
        let failed = |source| memory_error(vm.plan, source);
        let machine = frozen.machine().and_then(|machine| machine.ok_or(io::ErrorKind::NotFound.into()));
        let FrozenMachine { memory, state } = machine.map_err(failed)?;
        let state = pipes::out_of_file(state).map_err(failed)?;
        let memory = GuestMemory::frozen(memory);
        let command = command(vm)?.going_on();
        let process = self.spawn(vm, &command, &memory, Some(state))?;
        process.connect_and_load(vm, memory).await
    }

    fn spawn(
        &self,
        vm: Start<'_>,
        command: &QemuCommand,
        memory: &GuestMemory,
        state: Option<OwnedFd>,
    ) -> Result<Process, EngineError> {
        let name = || vm.plan.name.clone();
        let socket = |source| EngineError::Socket { vm: name(), source };
        let mut fds = vm.files.duplicates().map_err(socket)?;
        let memory_file = memory.file().try_clone().map_err(|source| memory_error(vm.plan, source))?;
        fds.push((memory_file.into(), Handle::Memory.number()));
        fds.extend(state.map(|state| (state, Handle::State.number())));
        let mut pair = |handle: Handle| -> io::Result<UnixStream> {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            fds.push((OwnedFd::from(theirs), handle.number()));
            UnixStream::from_std(ours)
        };
        let monitor = pair(Handle::Qmp).map_err(socket)?;
        let console = pair(Handle::Console).map_err(socket)?;
        let agent = GuestAgent::new(pair(Handle::Agent).map_err(socket)?);
        let thaw = ThawPort::new(pair(Handle::Thaw).map_err(socket)?);
        let program = Program {
            argv: command.argv().to_vec(),
            package: Some(QEMU_PACKAGE),
            env: large_pages(),
            cwd: None,
            fds,
            network_capabilities: false,
        };
        let started = self.processes.start(|| program.start(), |started| started.pid);
        let (Started { pid, stderr, .. }, exit) =
            started.map_err(|source| EngineError::Start { vm: name(), source })?;
        let errors = pipe::Receiver::from_owned_fd(stderr.into()).map_err(socket)?;
        Ok(Process { pid, exit, monitor, console, agent, thaw, errors })
    }
}

impl VmEngine for Qemu {
    fn start<'a>(&'a self, vm: Start<'a>) -> Boxed<'a, Result<Machine, EngineError>> {
        Box::pin(self.boot(vm))
    }

    fn go_on<'a>(&'a self, vm: Start<'a>, frozen: &'a FrozenVm) -> Boxed<'a, Result<Machine, EngineError>> {
        Box::pin(self.fork(vm, frozen))
    }
}

/// The planned command line, with the layers that freezes have added since.
fn command(vm: Start<'_>) -> Result<QemuCommand, EngineError> {
    match &vm.plan.launch {
        Launch::Qemu(command) => Ok(command.clone().with_layers(vm.files.layer_count())),
        other => {
            let why = format!("it was planned for another engine: {other}");
            Err(EngineError::Refused { vm: vm.plan.name.clone(), why })
        }
    }
}

/// A QEMU process that was just started, with our ends of its sockets. It may yet fail.
struct Process {
    pid: Pid,
    exit: ExitWatch,
    monitor: UnixStream,
    console: UnixStream,
    agent: GuestAgent,
    thaw: ThawPort,
    errors: pipe::Receiver,
}

impl Process {
    async fn connect(self, vm: Start<'_>, memory: GuestMemory) -> Result<Machine, EngineError> {
        let (process, monitor) = self.open_monitor(vm).await?;
        Ok(process.machine(vm, memory, monitor))
    }

    async fn connect_and_load(self, vm: Start<'_>, memory: GuestMemory) -> Result<Machine, EngineError> {
        let (mut process, monitor) = self.open_monitor(vm).await?;
        let loaded = load(&vm.plan.name, &monitor.qmp, monitor.migration.clone()).await;
        if let Err(error) = loaded {
            let said = process.end().await;
            return Err(match error {
                EngineError::State { vm, action, reason } if !said.is_empty() => {
                    EngineError::State { vm, action, reason: format!("{reason}: {said}") }
                }
                error => error,
            });
        }
        Ok(process.machine(vm, memory, monitor))
    }

    async fn open_monitor(self, vm: Start<'_>) -> Result<(Connected, Monitor), EngineError> {
        let Self { pid, exit, monitor, console, agent, thaw, errors } = self;
        let mut process = Connected { pid, exit, console, agent, thaw, errors };
        let (sink, events, migration) = events();
        match Qmp::connect_to(monitor, sink).await {
            Ok((qmp, driver)) => {
                let mut tasks = JoinSet::new();
                tasks.spawn(async move {
                    driver.run().await.err().map(|error| steading_plan::chain(&error)).unwrap_or_default()
                });
                Ok((process, Monitor { qmp, events, migration, tasks }))
            }
            Err(source) => {
                let said = process.end().await;
                let said = if said.is_empty() { said } else { format!(": {said}") };
                Err(EngineError::Qmp { vm: vm.plan.name.clone(), said, source })
            }
        }
    }
}

/// A process whose monitor is connected.
struct Connected {
    pid: Pid,
    exit: ExitWatch,
    console: UnixStream,
    agent: GuestAgent,
    thaw: ThawPort,
    errors: pipe::Receiver,
}

/// The monitor of a process.
struct Monitor {
    qmp: Qmp,
    events: MachineEvents,
    migration: Migration,
    tasks: JoinSet<String>,
}

impl Connected {
    /// Ends a process that did not come up; what it said.
    async fn end(&mut self) -> String {
        kill(self.pid);
        self.exit.ended().await;
        let mut said = String::new();
        // What cannot be read is not said.
        let _ = self.errors.read_to_string(&mut said).await;
        said.trim().to_owned()
    }

    fn machine(self, vm: Start<'_>, memory: GuestMemory, monitor: Monitor) -> Machine {
        let Self { pid, exit, console, agent, thaw, errors } = self;
        let Monitor { qmp, events, migration, tasks } = monitor;
        let control = QemuControl {
            vm: vm.plan.name.clone(),
            pid,
            exit: exit.clone(),
            qmp,
            memory,
            thaw,
            // Without it the VM has all but pictures.
            screenshot: vm.files.screenshot().and_then(Result::ok),
            migration,
        };
        Machine {
            pid: Some(pid),
            exit,
            control: std::sync::Arc::new(control),
            events,
            console,
            agent: Some(agent),
            errors: Some(errors),
            tasks,
        }
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
