//! The task behind a VM: its machine, from start to end.

use std::sync::Arc;

use rustix::process::Pid;
use steading_api::{Failure, FailureKind, GUEST_POWERED_OFF, VmState, chain};
use steading_logs::journal::Power;
use steading_logs::{ConsoleSign, VmEvent, is_panic};
use steading_plan::VmPlan;
use steading_sys::process::Exit;
use steading_sys::processes::ExitWatch;
use steading_vm::engine::{Control, EngineError, Machine, MachineEvent, MachineEvents, Start, VmFiles};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::common::Common;
use super::signs::Inside;
use super::stall::{BootProgress, Stall};
use super::standing::{Hold, Standing};
use super::streams::{follow, read_console, read_errors, show_suspended, type_all};
use super::view::{Command, Ends, ReplyTo, VmView};

/// The task behind it.
pub(crate) struct VmTask {
    pub(super) index: u32,
    pub(super) plan: Arc<VmPlan>,
    pub(super) files: VmFiles,
    /// What it is to go on from.
    pub(super) standing: Option<Standing>,
    pub(super) common: Common,
    pub(super) ends: Ends,
    pub(super) inside: Inside,
}

/// A machine that runs.
pub(super) struct Running {
    pid: Option<Pid>,
    pub(super) exit: ExitWatch,
    pub(super) control: Arc<dyn Control>,
    pub(super) events: MachineEvents,
    signs: mpsc::UnboundedReceiver<ConsoleSign>,
    /// The way to its console.
    input: OwnedWriteHalf,
    /// What reads its outputs, and tasks of its engine; each ends with the machine, with what it knows of the
    /// reason.
    pub(super) tasks: JoinSet<String>,
    /// What to say when it ends, if it ends as was asked for.
    expected: Option<String>,
}

impl VmTask {
    /// Serves commands until every handle is gone.
    pub(crate) async fn run(self) {
        let Ends { mut commands, view, power, follower, journal, output } = self.ends;
        let life = Arc::new(BootProgress::default());
        let name = self.plan.name.clone();
        let _following = follow(name, (follower, journal), &self.common.log, self.inside, Arc::clone(&life));
        let mut machine = Tended {
            index: self.index,
            plan: self.plan,
            files: self.files,
            common: self.common,
            view,
            power,
            output,
            running: None,
            held: None,
            standing: self.standing,
            life,
            stall: Stall::default(),
        };
        loop {
            let is_held = machine.held.is_some();
            let may_stall = machine.may_stall();
            let Some(process) = &mut machine.running else {
                let Some(command) = commands.recv().await else { return };
                machine.command(command).await;
                continue;
            };
            tokio::select! {
                exit = process.exit.ended() => machine.ended(exit).await,
                // What a freeze does to a VM is not shown.
                Some(event) = process.events.recv(), if !is_held => machine.event(event).await,
                Some(sign) = process.signs.recv() => machine.sign(sign).await,
                () = machine.stall.due(), if may_stall => machine.look().await,
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => machine.command(command).await,
                },
            }
        }
    }
}

/// Who asked may have given up.
fn answer<T>(reply: ReplyTo<T>, outcome: Result<T, Failure>) {
    let _ = reply.send(outcome);
}

/// A VM, as its task tends it.
pub(super) struct Tended {
    index: u32,
    pub(super) plan: Arc<VmPlan>,
    pub(super) files: VmFiles,
    pub(super) common: Common,
    pub(super) view: watch::Sender<VmView>,
    pub(super) power: watch::Sender<Power>,
    pub(super) output: broadcast::Sender<Vec<u8>>,
    pub(super) running: Option<Running>,
    pub(super) held: Option<Hold>,
    pub(super) standing: Option<Standing>,
    life: Arc<BootProgress>,
    stall: Stall,
}

impl Tended {
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
        let boot = self.common.log.boot(&self.plan.name).await;
        let started = self.common.engine.start(self.start_of(boot)).await;
        let machine = started.map_err(|error| self.failure(&error))?;
        self.is_on(machine);
        self.begins(boot);
        self.common.log.event(&self.plan.name, VmEvent::On { boot }).await;
        Ok(())
    }

    async fn kill(&mut self) {
        if self.standing.take().is_some() {
            self.is_off("power cut while it was frozen".to_owned()).await;
        }
        let Some(process) = &mut self.running else { return };
        "power cut".clone_into(process.expected.get_or_insert_default());
        process.control.cut_power();
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

    /// What the engine starts.
    pub(super) fn start_of(&self, boot: u32) -> Start<'_> {
        Start { index: self.index, plan: &self.plan, files: &self.files, boot }
    }

    /// Reads what a machine says, and shows that the VM is on.
    pub(super) fn is_on(&mut self, machine: Machine) {
        let Machine { pid, exit, control, events, console, agent, errors, mut tasks } = machine;
        let (sign_sender, signs) = mpsc::unbounded_channel();
        let (name, log) = (self.plan.name.clone(), self.common.log.clone());
        let (console, input) = console.into_split();
        let (output, life) = (self.output.clone(), Arc::clone(&self.life));
        tasks.spawn(read_console(name.clone(), console, output, log.clone(), sign_sender, life));
        if let Some(errors) = errors {
            tasks.spawn(read_errors(name, errors, log));
        }
        self.view.send_modify(|view| {
            view.status.state = VmState::Running;
            view.status.pid = pid.map(|pid| pid.as_raw_nonzero().get());
            view.status.ended = None;
            view.control = Some(Arc::clone(&control));
            view.agent = agent.map(Arc::new);
        });
        self.running = Some(Running { pid, exit, control, events, signs, input, tasks, expected: None });
    }

    pub(super) async fn event(&mut self, event: MachineEvent) {
        let Some(process) = &mut self.running else { return };
        match event {
            MachineEvent::Paused => self.paused(VmState::Paused, VmEvent::Paused).await,
            MachineEvent::Resumed => self.paused(VmState::Running, VmEvent::Resumed).await,
            MachineEvent::GuestOff => {
                process.expected.get_or_insert_with(|| GUEST_POWERED_OFF.to_owned());
                self.view.send_modify(|view| view.guest_shutdowns += 1);
            }
            MachineEvent::Reset => {
                process.expected = None;
                let Some(boot) = self.common.log.reset(&self.plan.name).await else { return };
                self.begins(boot);
                self.common.log.event(&self.plan.name, VmEvent::On { boot }).await;
            }
            MachineEvent::Panicked => self.panicked().await,
            MachineEvent::Suspended => self.suspended(true).await,
            MachineEvent::Woken => self.suspended(false).await,
            MachineEvent::DiskError { operation, reason, no_space } => {
                let hint = if no_space { "; the host's disk is full" } else { "" };
                let message = format!("a disk could not {operation}: {reason}{hint}");
                self.common.log.warn(Some(&self.plan.name), &message).await;
            }
        }
    }

    async fn sign(&self, sign: ConsoleSign) {
        match sign {
            ConsoleSign::Trouble { badness, line } => {
                if is_panic(&line) {
                    self.panicked().await;
                }
                let message = format!("{badness} on its console: {}", line.trim());
                self.common.log.warn(Some(&self.plan.name), &message).await;
            }
            ConsoleSign::Suspended => self.suspended(true).await,
            ConsoleSign::Woken => self.suspended(false).await,
        }
    }

    /// Two signs tell of this, too: the console, and QEMU where the machine has such states.
    async fn suspended(&self, is_suspended: bool) {
        show_suspended(&self.view, &self.common.log, &self.plan.name, is_suspended).await;
    }

    /// Whether it is worth looking whether it hangs: it runs, in a process whose CPU time can be read.
    fn may_stall(&self) -> bool {
        let has_process = self.running.as_ref().is_some_and(|process| process.pid.is_some());
        has_process && self.view.borrow().status.state == VmState::Running
    }

    /// Looks whether the guest seems to hang in its boot.
    async fn look(&mut self) {
        let Some(pid) = self.running.as_ref().and_then(|process| process.pid) else { return };
        let Some(verdict) = self.stall.look(&self.life, pid) else { return };
        let last = self.common.log.tail(&self.plan.name, 1).await.pop();
        let stalled = verdict.told(last.as_deref());
        self.view.send_modify(|view| view.status.stalled = Some(stalled.clone()));
        let message = format!("{stalled}\nhint: {}", verdict.hint());
        self.common.log.warn(Some(&self.plan.name), &message).await;
    }

    /// A boot begins.
    fn begins(&mut self, boot: u32) {
        self.life.begins();
        self.stall = Stall::default();
        self.view.send_modify(|view| {
            view.status.boot = boot;
            (view.status.panicked, view.status.suspended, view.status.stalled) = (false, false, None);
        });
        if self.common.has_network {
            self.power.send_replace(Power::On { start: boot });
        }
    }

    async fn paused(&self, state: VmState, event: VmEvent) {
        self.view.send_modify(|view| view.status.state = state);
        self.common.log.event(&self.plan.name, event).await;
    }

    /// Two signs tell of one panic: the console and the panic device.
    async fn panicked(&self) {
        let is_new = self.view.send_if_modified(|view| !std::mem::replace(&mut view.status.panicked, true));
        if is_new {
            self.common.log.event(&self.plan.name, VmEvent::Panicked).await;
        }
    }

    /// The streams are read to their ends first, so that who learns of the end finds all that was said.
    async fn ended(&mut self, exit: Exit) {
        let Some(process) = &mut self.running else { return };
        let tasks = std::mem::take(&mut process.tasks);
        let said = tasks.join_all().await.concat();
        self.held = None;
        // What happened last may say why it ended, and may not have been read yet.
        while let Some(event) = self.running.as_mut().and_then(|process| process.events.try_recv().ok()) {
            self.event(event).await;
        }
        let Some(process) = self.running.take() else { return };
        self.has_taken(&process.exit);
        let reason = process.expected.unwrap_or_else(|| {
            let how = match exit {
                Exit::Status(status) => format!("status {status}"),
                Exit::Signal(signal) => format!("signal {signal}"),
            };
            let separator = if said.is_empty() { "" } else { ": " };
            format!("its machine ended unexpectedly ({how}){separator}{}", said.trim())
        });
        self.is_off(reason).await;
    }

    /// Counts a process that has ended.
    pub(super) fn has_taken(&self, exit: &ExitWatch) {
        if let Some(usage) = exit.usage() {
            self.common.taken.add(&self.plan.name, usage);
        }
    }

    pub(super) async fn is_off(&mut self, reason: String) {
        self.power.send_replace(Power::Off);
        self.common.log.event(&self.plan.name, VmEvent::Off { reason: reason.clone() }).await;
        self.view.send_modify(|view| {
            view.status.state = VmState::Off;
            view.status.pid = None;
            (view.status.suspended, view.status.stalled) = (false, None);
            view.status.ended = Some(reason);
            view.control = None;
            view.agent = None;
        });
    }

    pub(super) fn refusal(&self, kind: FailureKind, why: &str) -> Failure {
        Failure::new(kind, format!("VM {}: {why}", self.plan.name))
    }

    pub(super) fn failure(&self, error: &EngineError) -> Failure {
        self.ended_early(chain(error))
    }

    fn ended_early(&self, message: String) -> Failure {
        self.view.send_modify(|view| view.status.ended = Some(message.clone()));
        Failure::new(FailureKind::Failed, message)
    }
}
