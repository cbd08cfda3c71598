//! One VM of the group: a task that owns its QEMU process and says how it does.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::Pid;
use steading_api::{Failure, FailureKind, VmState, VmStatus, chain};
use steading_logs::journal::{FollowEvent, Follower, Power};
use steading_logs::{ConsoleAlarm, VmEvent, is_panic};
use steading_plan::{VmName, VmPlan};
use steading_sys::process::Exit;
use steading_vm::agent::GuestAgent;
use steading_vm::engine::{EngineError, Machine, VmFiles};
use steading_vm::qmp::{Qmp, QmpEvent, QmpEvents};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::processes::{ExitWatch, Processes};

/// How many of the last console lines a failure shows.
pub(crate) const CONSOLE_SHOWN: usize = 12;

/// How many pieces of a console's output may wait for those who look on; more are lost to them.
const OUTPUT_WAITING: usize = 256;

/// How a VM does, with what is needed to act on it.
#[derive(Clone, Debug)]
pub(crate) struct VmView {
    pub(crate) status: VmStatus,
    pub(crate) qmp: Option<Qmp>,
    pub(crate) agent: Option<Arc<GuestAgent>>,
    /// How often the guest has powered off without QEMU's ending (see `power`).
    pub(crate) guest_shutdowns: u32,
}

enum Command {
    Start(oneshot::Sender<Result<(), Failure>>),
    Kill(oneshot::Sender<Result<(), Failure>>),
    Type(Vec<u8>, oneshot::Sender<Result<(), Failure>>),
}

/// A handle to a VM.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub(crate) plan: Arc<VmPlan>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<VmView>,
    pub(crate) log: Log,
    /// What its console says, as it comes.
    pub(crate) output: broadcast::Sender<Vec<u8>>,
    /// What QEMU writes pictures of the display into.
    pub(crate) screenshot: Option<Arc<OwnedFd>>,
}

/// The task behind it.
pub(crate) struct VmTask {
    plan: Arc<VmPlan>,
    files: VmFiles,
    processes: Processes,
    log: Log,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<VmView>,
    power: watch::Sender<Power>,
    follower: Follower,
    journal: mpsc::Receiver<FollowEvent>,
    output: broadcast::Sender<Vec<u8>>,
}

/// A QEMU process that runs.
struct Running {
    pid: Pid,
    exit: ExitWatch,
    events: QmpEvents,
    alarms: mpsc::UnboundedReceiver<ConsoleAlarm>,
    /// The way to its console.
    input: OwnedWriteHalf,
    /// The monitor, the console and the error output; each ends with the process.
    streams: JoinSet<String>,
    /// What to say when it ends, if it ends as was asked for.
    expected: Option<String>,
}

impl Vm {
    pub(crate) fn new(
        plan: VmPlan,
        files: VmFiles,
        processes: Processes,
        log: Log,
        follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
    ) -> (Self, VmTask) {
        let plan = Arc::new(plan);
        let status = VmStatus {
            name: plan.name.clone(),
            address: plan.address,
            state: VmState::Off,
            boot: 0,
            panicked: false,
            pid: None,
            ended: Some("it was not started yet".to_owned()),
        };
        let (view_sender, view) =
            watch::channel(VmView { status, qmp: None, agent: None, guest_shutdowns: 0 });
        let (sender, commands) = mpsc::channel(8);
        let (power, powered) = watch::channel(Power::Off);
        let (journal_sender, journal) = mpsc::channel(64);
        let follower = follower(powered, journal_sender);
        // Without it the VM has all but pictures.
        let screenshot = files.screenshot().and_then(Result::ok).map(Arc::new);
        let (output, _) = broadcast::channel(OUTPUT_WAITING);
        let vm = Self {
            plan: Arc::clone(&plan),
            commands: sender,
            view,
            log: log.clone(),
            output: output.clone(),
            screenshot,
        };
        let task = VmTask {
            plan,
            files,
            processes,
            log,
            commands,
            view: view_sender,
            power,
            follower,
            journal,
            output,
        };
        (vm, task)
    }

    pub(crate) fn name(&self) -> &VmName {
        &self.plan.name
    }

    pub(crate) fn status(&self) -> VmStatus {
        self.view.borrow().status.clone()
    }

    pub(crate) fn view(&self) -> watch::Receiver<VmView> {
        self.view.clone()
    }

    pub(crate) async fn start(&self) -> Result<(), Failure> {
        self.ask(Command::Start).await
    }

    pub(crate) async fn kill(&self) -> Result<(), Failure> {
        self.ask(Command::Kill).await
    }

    /// Types on its console.
    pub(crate) async fn type_on_console(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.ask(|reply| Command::Type(bytes, reply)).await
    }

    /// A failure that is about this VM, with the end of its console.
    pub(crate) async fn failure(&self, kind: FailureKind, message: impl Into<String>) -> Failure {
        let console = self.log.tail(self.name(), CONSOLE_SHOWN).await;
        Failure { kind, message: message.into(), console }
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Command,
    ) -> Result<(), Failure> {
        let ending = || Failure {
            kind: FailureKind::VmEnded,
            message: format!("VM {}: the group is ending", self.plan.name),
            console: Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }
}

impl VmTask {
    /// Serves commands until every handle is gone.
    pub(crate) async fn run(mut self) {
        let cancel = CancellationToken::new();
        let _cancel_at_end = cancel.clone().drop_guard();
        let mut background = JoinSet::new();
        let (_, unused) = mpsc::channel(1);
        let journal = std::mem::replace(&mut self.journal, unused);
        background.spawn(forward_journal(self.plan.name.clone(), journal, self.log.clone()));
        let follower = self.follower;
        background.spawn(async move {
            follower.run(cancel).await;
        });
        let mut machine = Control {
            plan: self.plan,
            files: self.files,
            processes: self.processes,
            log: self.log,
            view: self.view,
            power: self.power,
            output: self.output,
        };
        let mut running: Option<Running> = None;
        loop {
            match &mut running {
                None => match self.commands.recv().await {
                    None => return,
                    Some(Command::Kill(reply)) => answer(reply, Ok(())),
                    Some(Command::Type(_, reply)) => {
                        answer(reply, Err(machine.refusal(FailureKind::VmEnded, "it is off")));
                    }
                    Some(Command::Start(reply)) => {
                        let started = machine.start().await;
                        let outcome = started.map(|started| running = Some(started));
                        answer(reply, outcome.map_err(|error| machine.failure(&error)));
                    }
                },
                Some(process) => tokio::select! {
                    exit = process.exit.ended() => {
                        if let Some(process) = running.take() {
                            machine.ended(process, exit).await;
                        }
                    }
                    Some(event) = process.events.recv() => machine.event(process, event.event).await,
                    Some(alarm) = process.alarms.recv() => machine.alarm(&alarm).await,
                    command = self.commands.recv() => match command {
                        None => return,
                        // Starting what runs changes nothing.
                        Some(Command::Start(reply)) => answer(reply, Ok(())),
                        Some(Command::Type(bytes, reply)) => {
                            let typed = type_all(&process.input, &bytes);
                            let refused = |why| machine.refusal(FailureKind::Failed, why);
                            answer(reply, typed.map_err(refused));
                        }
                        Some(Command::Kill(reply)) => {
                            "its plug was pulled".clone_into(process.expected.get_or_insert_default());
                            // It may just have ended by itself.
                            let _ = steading_vm::engine::kill(process.pid);
                            let exit = process.exit.ended().await;
                            if let Some(process) = running.take() {
                                machine.ended(process, exit).await;
                            }
                            answer(reply, Ok(()));
                        }
                    },
                },
            }
        }
    }
}

/// Who asked may have given up.
fn answer(reply: oneshot::Sender<Result<(), Failure>>, outcome: Result<(), Failure>) {
    let _ = reply.send(outcome);
}

struct Control {
    plan: Arc<VmPlan>,
    files: VmFiles,
    processes: Processes,
    log: Log,
    view: watch::Sender<VmView>,
    power: watch::Sender<Power>,
    output: broadcast::Sender<Vec<u8>>,
}

impl Control {
    async fn start(&mut self) -> Result<Running, EngineError> {
        let boot = self.log.boot(&self.plan.name).await;
        let (machine, exit) =
            self.processes.start(|| Machine::start(&self.plan, &self.files), |machine| machine.pid)?;
        let Machine { pid, monitor, console, agent, errors } = machine;
        let mut streams = JoinSet::new();
        let (alarm_sender, alarms) = mpsc::unbounded_channel();
        let name = self.plan.name.clone();
        let (console, input) = console.into_split();
        let output = self.output.clone();
        streams.spawn(read_console(name.clone(), console, output, self.log.clone(), alarm_sender));
        streams.spawn(read_errors(name.clone(), errors, self.log.clone()));
        let (qmp, driver, events) = match Qmp::connect(monitor).await {
            Ok(connected) => connected,
            Err(source) => {
                let _ = steading_vm::engine::kill(pid);
                let said: String = streams.join_all().await.concat();
                let said = if said.is_empty() { said } else { format!(": {}", said.trim()) };
                return Err(EngineError::Qmp { vm: name, said, source });
            }
        };
        streams.spawn(async move { driver.run().await.err().map(|error| chain(&error)).unwrap_or_default() });
        self.view.send_modify(|view| {
            view.status.state = VmState::Running;
            view.status.boot = boot;
            view.status.panicked = false;
            view.status.pid = Some(pid.as_raw_nonzero().get());
            view.status.ended = None;
            view.qmp = Some(qmp);
            view.agent = Some(Arc::new(agent));
        });
        self.power.send_replace(Power::On { start: boot });
        self.log.event(&self.plan.name, VmEvent::On { boot }).await;
        Ok(Running { pid, exit, events, alarms, input, streams, expected: None })
    }

    async fn event(&mut self, process: &mut Running, event: QmpEvent) {
        match event {
            QmpEvent::Stop => self.paused(VmState::Paused, VmEvent::Paused).await,
            QmpEvent::Resume => self.paused(VmState::Running, VmEvent::Resumed).await,
            QmpEvent::Shutdown { guest: true, .. } => {
                process.expected.get_or_insert_with(|| "the guest powered off".to_owned());
                self.view.send_modify(|view| view.guest_shutdowns += 1);
            }
            QmpEvent::Reset { .. } => {
                process.expected = None;
                let Some(boot) = self.log.reset(&self.plan.name).await else { return };
                self.view.send_modify(|view| {
                    view.status.boot = boot;
                    view.status.panicked = false;
                });
                self.power.send_replace(Power::On { start: boot });
                self.log.event(&self.plan.name, VmEvent::On { boot }).await;
            }
            QmpEvent::GuestPanicked { .. } => self.panicked().await,
            QmpEvent::BlockIoError { operation, reason, no_space, .. } => {
                let hint = if no_space { "; the host's disk is full" } else { "" };
                let message = format!("a disk could not {operation}: {reason}{hint}");
                self.log.warn(Some(&self.plan.name), &message).await;
            }
            _ => {}
        }
    }

    async fn alarm(&self, alarm: &ConsoleAlarm) {
        if is_panic(&alarm.line) {
            self.panicked().await;
        }
        let message = format!("{} on its console: {}", alarm.badness, alarm.line.trim());
        self.log.warn(Some(&self.plan.name), &message).await;
    }

    async fn paused(&self, state: VmState, event: VmEvent) {
        self.view.send_modify(|view| view.status.state = state);
        self.log.event(&self.plan.name, event).await;
    }

    /// Two signs tell of one panic: the console and the panic device.
    async fn panicked(&self) {
        let is_new = self.view.send_if_modified(|view| !std::mem::replace(&mut view.status.panicked, true));
        if is_new {
            self.log.event(&self.plan.name, VmEvent::Panicked).await;
        }
    }

    /// The streams are read to their ends first, so that who learns of the end finds all that was said.
    async fn ended(&mut self, process: Running, exit: Exit) {
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
        self.power.send_replace(Power::Off);
        self.log.event(&self.plan.name, VmEvent::Off { reason: reason.clone() }).await;
        self.view.send_modify(|view| {
            view.status.state = VmState::Off;
            view.status.pid = None;
            view.status.ended = Some(reason);
            view.qmp = None;
            view.agent = None;
        });
    }

    fn refusal(&self, kind: FailureKind, why: &str) -> Failure {
        Failure { kind, message: format!("VM {}: {why}", self.plan.name), console: Vec::new() }
    }

    fn failure(&self, error: &EngineError) -> Failure {
        let message = chain(error);
        self.view.send_modify(|view| view.status.ended = Some(message.clone()));
        Failure { kind: FailureKind::Failed, message, console: Vec::new() }
    }
}

/// Types on a console. A guest that does not read is not waited for.
fn type_all(input: &OwnedWriteHalf, bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match input.try_write(rest) {
            Ok(written @ 1..) => rest = &rest[written..],
            Ok(0) | Err(_) => return Err("its console takes no more input: the guest does not read it"),
        }
    }
    Ok(())
}

async fn forward_journal(vm: VmName, mut events: mpsc::Receiver<FollowEvent>, log: Log) {
    while let Some(event) = events.recv().await {
        log.journal(&vm, event).await;
    }
}

async fn read_console(
    vm: VmName,
    mut console: OwnedReadHalf,
    output: broadcast::Sender<Vec<u8>>,
    log: Log,
    alarms: mpsc::UnboundedSender<ConsoleAlarm>,
) -> String {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = console.read(&mut buffer).await {
        // Mostly nobody looks on.
        let _ = output.send(buffer[..read].to_vec());
        for alarm in log.console(&vm, &buffer[..read]).await {
            // When nobody listens the VM has ended.
            let _ = alarms.send(alarm);
        }
    }
    String::new()
}

/// QEMU's own errors, for the log and for the reason of its end.
async fn read_errors(vm: VmName, mut errors: pipe::Receiver, log: Log) -> String {
    const KEPT: usize = 2000;
    let mut buffer = vec![0; 4096];
    let mut said = String::new();
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..read]);
        log.driver(Some(&vm), text.trim_end()).await;
        if said.len() < KEPT {
            said.push_str(&text);
        }
    }
    said
}
