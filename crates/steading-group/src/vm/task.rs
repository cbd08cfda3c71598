//! The task behind a VM: its QEMU process, from start to end.

use std::sync::Arc;

use rustix::process::{Pid, Signal};
use steading_api::{Failure, FailureKind, VmState, chain};
use steading_logs::journal::{FollowEvent, Follower, Power};
use steading_logs::{ConsoleSign, VmEvent, is_panic};
use steading_plan::VmPlan;
use steading_sys::process::Exit;
use steading_vm::agent::GuestAgent;
use steading_vm::engine::{EngineError, GuestMemory, Machine, VmFiles};
use steading_vm::qmp::{Qmp, QmpEvent, QmpEvents};
use steading_vm::thaw::ThawPort;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::freeze::{Held, Standing};
use super::nested::Inside;
use super::stall::{Life, Stall};
use super::streams::{forward_journal, read_console, read_errors, show_suspended, type_all};
use super::{Command, Reply, Shared, VmView};
use crate::libvirt::Libvirt;
use crate::processes::ExitWatch;

/// The task behind it.
pub(crate) struct VmTask {
    pub(super) index: u32,
    pub(super) plan: Arc<VmPlan>,
    pub(super) files: VmFiles,
    /// What it is to go on from.
    pub(super) standing: Option<Standing>,
    pub(super) shared: Shared,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<VmView>,
    pub(super) power: watch::Sender<Power>,
    pub(super) follower: Follower,
    pub(super) journal: mpsc::Receiver<FollowEvent>,
    pub(super) output: broadcast::Sender<Vec<u8>>,
    pub(super) inside: Inside,
}

/// A QEMU process that runs.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) exit: ExitWatch,
    pub(super) qmp: Qmp,
    pub(super) events: QmpEvents,
    /// None where it is not ours to keep.
    pub(super) memory: Option<GuestMemory>,
    thaw: Option<Arc<ThawPort>>,
    signs: mpsc::UnboundedReceiver<ConsoleSign>,
    /// The way to its console.
    input: OwnedWriteHalf,
    /// The monitor, the console and the error output; each ends with the process.
    pub(super) streams: JoinSet<String>,
    /// What to say when it ends, if it ends as was asked for.
    expected: Option<String>,
}

impl VmTask {
    /// Serves commands until every handle is gone.
    pub(crate) async fn run(mut self) {
        let cancel = CancellationToken::new();
        let _cancel_at_end = cancel.clone().drop_guard();
        let mut background = JoinSet::new();
        let (_, unused) = mpsc::channel(1);
        let journal = std::mem::replace(&mut self.journal, unused);
        let (name, log) = (self.plan.name.clone(), self.shared.log.clone());
        let life = Arc::new(Life::default());
        background.spawn(forward_journal(name, journal, log, self.inside, Arc::clone(&life)));
        let follower = self.follower;
        background.spawn(async move {
            follower.run(cancel).await;
        });
        let mut machine = Control {
            index: self.index,
            plan: self.plan,
            files: self.files,
            shared: self.shared,
            view: self.view,
            power: self.power,
            output: self.output,
            running: None,
            held: None,
            standing: self.standing,
            life,
            stall: Stall::default(),
        };
        loop {
            let is_held = machine.held.is_some();
            let Some(process) = &mut machine.running else {
                let Some(command) = self.commands.recv().await else { return };
                machine.command(command).await;
                continue;
            };
            tokio::select! {
                exit = process.exit.ended() => machine.ended(exit).await,
                // What a freeze does to a VM is not told.
                Some(event) = process.events.recv(), if !is_held => machine.event(event.event).await,
                Some(sign) = process.signs.recv() => machine.sign(sign).await,
                () = machine.stall.due(), if machine.view.borrow().status.state == VmState::Running => machine.look().await,
                command = self.commands.recv() => match command {
                    None => return,
                    Some(command) => machine.command(command).await,
                },
            }
        }
    }
}

/// Ends a QEMU process, which has no children. It may just have ended by itself.
fn pull_plug(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

/// Who asked may have given up.
fn answer<T>(reply: Reply<T>, outcome: Result<T, Failure>) {
    let _ = reply.send(outcome);
}

pub(super) struct Control {
    index: u32,
    pub(super) plan: Arc<VmPlan>,
    pub(super) files: VmFiles,
    pub(super) shared: Shared,
    pub(super) view: watch::Sender<VmView>,
    pub(super) power: watch::Sender<Power>,
    pub(super) output: broadcast::Sender<Vec<u8>>,
    pub(super) running: Option<Running>,
    pub(super) held: Option<Held>,
    pub(super) standing: Option<Standing>,
    life: Arc<Life>,
    stall: Stall,
}

impl Control {
    async fn command(&mut self, command: Command) {
        match command {
            Command::Start(reply) => answer(reply, self.start().await),
            Command::Kill(reply) => {
                self.kill().await;
                answer(reply, Ok(()));
            }
            Command::Type(bytes, reply) => answer(reply, self.type_on_console(&bytes)),
            Command::Hold(reply) => answer(reply, self.hold().await),
            Command::Save(reply) => answer(reply, self.save().await),
            Command::Commit(reply) => answer(reply, self.commit().await),
            Command::Release(reply) => answer(reply, self.release().await),
            Command::Load(reply) => answer(reply, self.load().await),
            Command::Run(reply) => answer(reply, self.run().await),
        }
    }

    /// Starting what runs changes nothing.
    async fn start(&mut self) -> Result<(), Failure> {
        if self.standing.is_some() {
            return Err(self.refusal(FailureKind::BadRequest, "it is frozen, with its group"));
        }
        if self.running.is_some() {
            return Ok(());
        }
        let boot = self.shared.log.boot(&self.plan.name).await;
        let booted = if let Some(libvirt) = &self.shared.libvirt {
            self.boot_by(libvirt, boot).await
        } else {
            let launched = self.launch(|vm| Machine::start(&vm.plan, &vm.shared.qemu, &vm.files)).await;
            launched.map_err(|error| self.failure(&error))
        };
        let (running, agent) = booted?;
        self.is_on(running, agent);
        self.begins(boot);
        self.shared.log.event(&self.plan.name, VmEvent::On { boot }).await;
        Ok(())
    }

    async fn kill(&mut self) {
        if self.standing.take().is_some() {
            self.is_off("its plug was pulled while it was frozen".to_owned()).await;
        }
        let Some(process) = &mut self.running else { return };
        "its plug was pulled".clone_into(process.expected.get_or_insert_default());
        pull_plug(process.pid);
        let exit = process.exit.ended().await;
        self.ended(exit).await;
    }

    fn type_on_console(&self, bytes: &[u8]) -> Result<(), Failure> {
        match &self.running {
            None => Err(self.refusal(FailureKind::VmEnded, "it is off")),
            Some(process) => {
                type_all(&process.input, bytes).map_err(|why| self.refusal(FailureKind::Failed, why))
            }
        }
    }

    /// Starts a QEMU process, and speaks with it.
    pub(super) async fn launch(
        &self,
        start: impl FnOnce(&Self) -> Result<Machine, EngineError>,
    ) -> Result<(Running, Arc<GuestAgent>), EngineError> {
        let (machine, exit) = self.shared.processes.start(|| start(self), |machine| machine.pid)?;
        self.take_over(machine, exit).await
    }

    /// Boots it by libvirt.
    async fn boot_by(&self, libvirt: &Libvirt, boot: u32) -> Result<(Running, Arc<GuestAgent>), Failure> {
        match libvirt.boot(self.index, &self.plan, boot).await {
            Ok((machine, exit)) => self.take_over(machine, exit).await.map_err(|error| self.failure(&error)),
            Err(error) => {
                Err(self.ended_early(format!("VM {}: cannot start it: {}", self.plan.name, chain(&error))))
            }
        }
    }

    /// Reads what a QEMU process says, and speaks with it.
    async fn take_over(
        &self,
        machine: Machine,
        exit: ExitWatch,
    ) -> Result<(Running, Arc<GuestAgent>), EngineError> {
        let Machine { pid, monitor, console, agent, thaw, errors, memory } = machine;
        let mut streams = JoinSet::new();
        let (sign_sender, signs) = mpsc::unbounded_channel();
        let name = self.plan.name.clone();
        let log = self.shared.log.clone();
        let (console, input) = console.into_split();
        let output = self.output.clone();
        let life = Arc::clone(&self.life);
        streams.spawn(read_console(name.clone(), console, output, log.clone(), sign_sender, life));
        if let Some(errors) = errors {
            streams.spawn(read_errors(name.clone(), errors, log));
        }
        if let Some(libvirt) = self.shared.libvirt.clone() {
            let (name, mut exit) = (name.clone(), exit.clone());
            streams.spawn(async move {
                exit.ended().await;
                libvirt.complaint(&name)
            });
        }
        let (qmp, driver, events) = match Qmp::connect(monitor).await {
            Ok(connected) => connected,
            Err(source) => {
                pull_plug(pid);
                let said: String = streams.join_all().await.concat();
                let said = if said.is_empty() { said } else { format!(": {}", said.trim()) };
                return Err(EngineError::Qmp { vm: name, said, source });
            }
        };
        streams.spawn(async move { driver.run().await.err().map(|error| chain(&error)).unwrap_or_default() });
        let thaw = thaw.map(Arc::new);
        let running = Running { pid, exit, qmp, events, memory, thaw, signs, input, streams, expected: None };
        Ok((running, Arc::new(agent)))
    }

    /// Shows that it is on, by this process.
    pub(super) fn is_on(&mut self, running: Running, agent: Arc<GuestAgent>) {
        self.view.send_modify(|view| {
            view.status.state = VmState::Running;
            view.status.pid = Some(running.pid.as_raw_nonzero().get());
            view.status.ended = None;
            view.qmp = Some(running.qmp.clone());
            view.agent = Some(agent);
            view.thaw.clone_from(&running.thaw);
        });
        self.running = Some(running);
    }

    pub(super) async fn event(&mut self, event: QmpEvent) {
        let Some(process) = &mut self.running else { return };
        match event {
            QmpEvent::Stop => self.paused(VmState::Paused, VmEvent::Paused).await,
            QmpEvent::Resume => self.paused(VmState::Running, VmEvent::Resumed).await,
            QmpEvent::Shutdown { guest: true, .. } => {
                process.expected.get_or_insert_with(|| "the guest powered off".to_owned());
                self.view.send_modify(|view| view.guest_shutdowns += 1);
            }
            QmpEvent::Reset { .. } => {
                process.expected = None;
                let Some(boot) = self.shared.log.reset(&self.plan.name).await else { return };
                self.begins(boot);
                self.shared.log.event(&self.plan.name, VmEvent::On { boot }).await;
            }
            QmpEvent::GuestPanicked { .. } => self.panicked().await,
            QmpEvent::Suspended => self.suspended(true).await,
            QmpEvent::Woken => self.suspended(false).await,
            QmpEvent::BlockIoError { operation, reason, no_space, .. } => {
                let hint = if no_space { "; the host's disk is full" } else { "" };
                let message = format!("a disk could not {operation}: {reason}{hint}");
                self.shared.log.warn(Some(&self.plan.name), &message).await;
            }
            _ => {}
        }
    }

    async fn sign(&self, sign: ConsoleSign) {
        match sign {
            ConsoleSign::Trouble { badness, line } => {
                if is_panic(&line) {
                    self.panicked().await;
                }
                let message = format!("{badness} on its console: {}", line.trim());
                self.shared.log.warn(Some(&self.plan.name), &message).await;
            }
            ConsoleSign::Suspended => self.suspended(true).await,
            ConsoleSign::Woken => self.suspended(false).await,
        }
    }

    /// Two signs tell of this, too: the console, and QEMU where the machine has such states.
    async fn suspended(&self, is_suspended: bool) {
        show_suspended(&self.view, &self.shared.log, &self.plan.name, is_suspended).await;
    }

    /// Looks whether the guest seems to hang in its boot.
    async fn look(&mut self) {
        let Some(process) = &self.running else { return };
        let Some(verdict) = self.stall.look(&self.life, process.pid) else { return };
        let last = self.shared.log.tail(&self.plan.name, 1).await.pop();
        let stalled = verdict.told(last.as_deref());
        self.view.send_modify(|view| view.status.stalled = Some(stalled.clone()));
        let message = format!("{stalled}\nhint: {}", verdict.hint());
        self.shared.log.warn(Some(&self.plan.name), &message).await;
    }

    /// A boot begins.
    fn begins(&mut self, boot: u32) {
        self.life.begins();
        self.stall = Stall::default();
        self.view.send_modify(|view| {
            view.status.boot = boot;
            (view.status.panicked, view.status.suspended, view.status.stalled) = (false, false, None);
        });
        self.power.send_replace(Power::On { start: boot });
    }

    async fn paused(&self, state: VmState, event: VmEvent) {
        self.view.send_modify(|view| view.status.state = state);
        self.shared.log.event(&self.plan.name, event).await;
    }

    /// Two signs tell of one panic: the console and the panic device.
    async fn panicked(&self) {
        let is_new = self.view.send_if_modified(|view| !std::mem::replace(&mut view.status.panicked, true));
        if is_new {
            self.shared.log.event(&self.plan.name, VmEvent::Panicked).await;
        }
    }

    /// The streams are read to their ends first, so that who learns of the end finds all that was said.
    async fn ended(&mut self, exit: Exit) {
        let Some(process) = self.running.take() else { return };
        self.held = None;
        self.has_taken(&process.exit);
        let said = process.streams.join_all().await.concat();
        let reason = process.expected.unwrap_or_else(|| {
            let how = match exit {
                Exit::Status(status) => format!("with status {status}"),
                Exit::Signal(signal) => format!("by signal {signal}"),
            };
            format!(
                "QEMU ended {how}, which nobody asked for{}{}",
                if said.is_empty() { "" } else { ": " },
                said.trim()
            )
        });
        self.is_off(reason).await;
    }

    /// Counts a process that has ended.
    pub(super) fn has_taken(&self, exit: &ExitWatch) {
        if let Some(usage) = exit.usage() {
            self.shared.taken.add(&self.plan.name, usage);
        }
    }

    pub(super) async fn is_off(&mut self, reason: String) {
        self.power.send_replace(Power::Off);
        self.shared.log.event(&self.plan.name, VmEvent::Off { reason: reason.clone() }).await;
        self.view.send_modify(|view| {
            view.status.state = VmState::Off;
            view.status.pid = None;
            (view.status.suspended, view.status.stalled) = (false, None);
            view.status.ended = Some(reason);
            view.qmp = None;
            view.agent = None;
            view.thaw = None;
        });
    }

    pub(super) fn refusal(&self, kind: FailureKind, why: &str) -> Failure {
        Failure { kind, message: format!("VM {}: {why}", self.plan.name), console: Vec::new() }
    }

    pub(super) fn failure(&self, error: &EngineError) -> Failure {
        self.ended_early(chain(error))
    }

    fn ended_early(&self, message: String) -> Failure {
        self.view.send_modify(|view| view.status.ended = Some(message.clone()));
        Failure { kind: FailureKind::Failed, message, console: Vec::new() }
    }
}
