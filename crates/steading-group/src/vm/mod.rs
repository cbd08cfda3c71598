//! One VM of the group: a task that owns its machine and shows its state.

mod freeze;
pub(crate) mod nested;
pub(crate) mod settle;
mod stall;
mod streams;
mod task;

use std::sync::Arc;

use steading_api::{Failure, FailureKind, VmState, VmStatus};
use steading_logs::journal::{FollowEvent, Follower, JournalPosition, Power};
use steading_plan::{VmName, VmPlan};
use steading_vm::agent::GuestAgent;
use steading_vm::engine::{Control, FrozenVm, VmEngine, VmFiles};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::frozen::Past;
use crate::log::Log;
use crate::taken::Taken;
use nested::{Inside, NestedTask, Told};
pub(crate) use task::VmTask;

/// How many of the last console lines a failure shows.
pub(crate) const CONSOLE_SHOWN: usize = 12;

/// How many pieces of a console's output may wait for those who look on; more are lost to them.
const OUTPUT_WAITING: usize = 256;

/// How a VM does, with what is needed to act on it.
#[derive(Clone, Debug)]
pub(crate) struct VmView {
    pub(crate) status: VmStatus,
    /// The controls of its machine, while it has one.
    pub(crate) control: Option<Arc<dyn Control>>,
    pub(crate) agent: Option<Arc<GuestAgent>>,
    /// How often the guest has powered off, whether or not its machine ended (see `power`).
    pub(crate) guest_shutdowns: u32,
}

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

enum Command {
    Start(Reply<()>),
    Kill(Reply<()>),
    Type(Vec<u8>, Reply<()>),
    /// The steps of a freeze, in this order; see `freeze`.
    Hold(Reply<()>),
    Save(Reply<()>),
    Commit(Reply<FrozenVm>),
    /// Goes on as if there had been no freeze.
    Release(Reply<()>),
    /// The steps from a frozen VM to one that runs.
    Load(Reply<()>),
    Run(Reply<()>),
}

/// What all VMs of a group have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// What starts the VMs.
    pub(crate) engine: Arc<dyn VmEngine>,
    /// Whether they have network cards, hence journals that can be followed.
    pub(crate) has_network: bool,
    pub(crate) log: Log,
    pub(crate) taken: Taken,
}

/// A handle to a VM.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub(crate) plan: Arc<VmPlan>,
    /// The VM that it runs inside of, if it does.
    pub(crate) host: Option<Arc<Vm>>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<VmView>,
    pub(crate) log: Log,
    /// What its console says, as it comes.
    pub(crate) output: broadcast::Sender<Vec<u8>>,
    /// Where its journal was read to.
    pub(crate) read_to: watch::Receiver<Option<JournalPosition>>,
}

/// The ends of a VM's channels that its task has.
struct Ends {
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<VmView>,
    power: watch::Sender<Power>,
    follower: Follower,
    journal: mpsc::Receiver<FollowEvent>,
    output: broadcast::Sender<Vec<u8>>,
}

impl Vm {
    pub(crate) fn new(
        index: u32,
        plan: VmPlan,
        (files, past): (VmFiles, Option<Past>),
        inside: Inside,
        shared: &Shared,
        follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
    ) -> (Self, VmTask) {
        let mut status = status_of(&plan, "it was not started yet");
        let standing = past.and_then(|past| {
            let Past { frozen, record } = past;
            (status.boot, status.panicked, status.suspended) =
                (record.boot, record.panicked, record.suspended);
            if frozen.was_on() {
                (status.state, status.ended) = (VmState::Frozen, None);
            } else {
                status.ended = record.ended;
            }
            frozen.was_on().then_some(freeze::Standing { frozen, state: record.state })
        });
        let (vm, ends) = Self::with_status(plan, status, shared, follower);
        let (plan, shared) = (Arc::clone(&vm.plan), shared.clone());
        let task = VmTask { index, plan, files, standing, shared, ends, inside };
        (vm, task)
    }

    /// One that another VM runs.
    pub(crate) fn nested(
        plan: VmPlan,
        host: &Self,
        signs: mpsc::UnboundedReceiver<Told>,
        shared: &Shared,
        follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
    ) -> (Self, NestedTask) {
        let status = status_of(&plan, &format!("its host, VM {}, has not started it yet", host.name()));
        let (mut vm, ends) = Self::with_status(plan, status, shared, follower);
        vm.host = Some(Arc::new(host.clone()));
        let (plan, host, log) = (Arc::clone(&vm.plan), host.clone(), shared.log.clone());
        let task = NestedTask { plan, host, log, signs, ends };
        (vm, task)
    }

    fn with_status(
        plan: VmPlan,
        status: VmStatus,
        shared: &Shared,
        follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
    ) -> (Self, Ends) {
        let (view_sender, view) =
            watch::channel(VmView { status, control: None, agent: None, guest_shutdowns: 0 });
        let (sender, commands) = mpsc::channel(8);
        let (power, powered) = watch::channel(Power::Off);
        let (journal_sender, journal) = mpsc::channel(64);
        let follower = follower(powered, journal_sender);
        let (output, _) = broadcast::channel(OUTPUT_WAITING);
        let vm = Self {
            plan: Arc::new(plan),
            host: None,
            commands: sender,
            view,
            log: shared.log.clone(),
            output: output.clone(),
            read_to: follower.position(),
        };
        (vm, Ends { commands, view: view_sender, power, follower, journal, output })
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

    /// Pauses its CPUs for a freeze, without showing it.
    pub(crate) async fn hold(&self) -> Result<(), Failure> {
        self.ask(Command::Hold).await
    }

    /// Saves its memory and devices, while it is held.
    pub(crate) async fn save(&self) -> Result<(), Failure> {
        self.ask(Command::Save).await
    }

    /// Gives up what was written down, which cannot fail but by its end; it stands until [`Self::load`].
    pub(crate) async fn commit(&self) -> Result<FrozenVm, Failure> {
        self.ask(Command::Commit).await
    }

    /// Goes on as if there had been no freeze.
    pub(crate) async fn release(&self) -> Result<(), Failure> {
        self.ask(Command::Release).await
    }

    /// Becomes a fork of what was frozen; its CPUs do not run yet.
    pub(crate) async fn load(&self) -> Result<(), Failure> {
        self.ask(Command::Load).await
    }

    /// Lets the CPUs run, if they ran when it was frozen.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        self.ask(Command::Run).await
    }

    /// A failure that is about this VM, with the end of its console.
    pub(crate) async fn failure(&self, kind: FailureKind, message: impl Into<String>) -> Failure {
        let console = self.log.tail(self.name(), CONSOLE_SHOWN).await;
        let mut message = message.into();
        if let (FailureKind::TimedOut, Some(why)) = (kind, self.status().silence()) {
            message = format!("{message}; {why}");
        }
        Failure { kind, message, console }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
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

/// The status of a VM that is off.
fn status_of(plan: &VmPlan, why: &str) -> VmStatus {
    VmStatus {
        name: plan.name.clone(),
        address: plan.address,
        state: VmState::Off,
        boot: 0,
        panicked: false,
        suspended: false,
        stalled: None,
        pid: None,
        ended: Some(why.to_owned()),
    }
}
