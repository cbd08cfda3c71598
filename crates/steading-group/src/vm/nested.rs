//! A VM inside another: its host runs it, and the host's journal reports on it (`signs`). Verbs are carried out by
//! the host's `/usr/lib/steading/nested VERB NAME`, which the host's agent runs.

use std::sync::Arc;
use std::time::Duration;

use steading_api::{Failure, FailureKind, VmState, VmVerb, chain};
use steading_logs::journal::Power;
use steading_logs::{ConsoleSign, VmEvent, is_panic};
use steading_plan::VmPlan;
use steading_vm::agent::AgentCommand;
use tokio::sync::{broadcast, mpsc, watch};

use super::handle::VmHandle;
use super::signs::{Inside, Sign, TimedSign};
use super::streams::{follow, show_suspended};
use super::view::{Command, Ends, VmView};
use crate::log::Log;

/// The program of a host that does to its guests what it is told.
const PROGRAM: &str = "/usr/lib/steading/nested";

/// How long that may take: a guest may need 180 s to power off.
const LIMIT: Duration = Duration::from_secs(240);

/// How long the host's journal may be silent about what was done.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// The task behind such a VM.
pub(crate) struct NestedTask {
    pub(super) plan: Arc<VmPlan>,
    pub(super) host: VmHandle,
    pub(super) log: Log,
    pub(super) signs: mpsc::UnboundedReceiver<TimedSign>,
    pub(super) ends: Ends,
}

impl NestedTask {
    /// Shows how it does, until every handle is gone.
    pub(crate) async fn run(self) {
        let Self { plan, host, log, mut signs, ends } = self;
        let Ends { mut commands, view, power, follower, journal, output } = ends;
        let _following =
            follow(plan.name.clone(), (follower, journal), &log, Inside::default(), Arc::default());
        let mut its_host = host.view();
        let shown = Shown { plan, log, view, power, output };
        // The boot in which the host is, none if it is off; the one that signs were last of; and one that is
        // over, of which signs may come late, when the journal is followed again.
        let (mut boot, mut signs_of, mut over) = (None, None, None);
        loop {
            tokio::select! {
                Some(TimedSign { host_boot, sign }) = signs.recv() => {
                    if host_boot.is_none() || host_boot != over {
                        shown.sign(sign).await;
                        signs_of = host_boot;
                    } else if matches!(sign, Sign::Console(_)) {
                        shown.sign(sign).await;
                    }
                }
                Ok(()) = its_host.changed() => {
                    let now = {
                        let view = its_host.borrow_and_update();
                        (view.status.state != VmState::Off).then_some(view.status.boot)
                    };
                    if now != boot {
                        over.clone_from(&signs_of);
                    }
                    if now.is_none() {
                        shown.off(format!("its host, VM {}, is off", host.name())).await;
                    } else if now != boot {
                        shown.expected();
                    }
                    boot = now;
                }
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => shown.answer(command),
                },
            }
        }
    }
}

struct Shown {
    plan: Arc<VmPlan>,
    log: Log,
    view: watch::Sender<VmView>,
    power: watch::Sender<Power>,
    output: broadcast::Sender<Vec<u8>>,
}

impl Shown {
    async fn sign(&self, sign: Sign) {
        match sign {
            Sign::Console(line) => self.console(line).await,
            Sign::On => self.on().await,
            Sign::Off(reason) => self.off(format!("its host tells of its end: {reason}")).await,
            Sign::Paused => self.paused(VmState::Running, VmState::Paused, VmEvent::Paused).await,
            Sign::Resumed => self.paused(VmState::Paused, VmState::Running, VmEvent::Resumed).await,
        }
    }

    async fn console(&self, line: String) {
        let bytes = format!("{line}\n").into_bytes();
        // Mostly nobody looks on.
        let _ = self.output.send(bytes.clone());
        for sign in self.log.console(&self.plan.name, &bytes).await {
            let (badness, line) = match sign {
                ConsoleSign::Trouble { badness, line } => (badness, line),
                ConsoleSign::Suspended | ConsoleSign::Woken => {
                    let is_suspended = sign == ConsoleSign::Suspended;
                    show_suspended(&self.view, &self.log, &self.plan.name, is_suspended).await;
                    continue;
                }
            };
            let is_new = is_panic(&line)
                && self.view.send_if_modified(|view| !std::mem::replace(&mut view.status.panicked, true));
            if is_new {
                self.log.event(&self.plan.name, VmEvent::Panicked).await;
            }
            let message = format!("{badness} on its console: {}", line.trim());
            self.log.warn(Some(&self.plan.name), &message).await;
        }
    }

    /// Its host is on, and will start it: those who wait for it wait on.
    fn expected(&self) {
        if self.plan.spec.autostart {
            self.view.send_modify(|view| (view.status.state, view.status.ended) = (VmState::Running, None));
        }
    }

    async fn on(&self) {
        let boot = self.log.boot(&self.plan.name).await;
        self.view.send_modify(|view| {
            (view.status.boot, view.status.panicked, view.status.suspended) = (boot, false, false);
            (view.status.state, view.status.ended) = (VmState::Running, None);
        });
        self.power.send_replace(Power::On { start: boot });
        self.log.event(&self.plan.name, VmEvent::On { boot }).await;
    }

    async fn off(&self, reason: String) {
        let was_on = self.view.borrow().status.state != VmState::Off;
        if was_on {
            self.power.send_replace(Power::Off);
            self.log.event(&self.plan.name, VmEvent::Off { reason: reason.clone() }).await;
            self.view.send_modify(|view| {
                (view.status.state, view.status.ended) = (VmState::Off, Some(reason));
            });
        }
    }

    async fn paused(&self, before: VmState, after: VmState, event: VmEvent) {
        if self.view.borrow().status.state == before {
            self.view.send_modify(|view| view.status.state = after);
            self.log.event(&self.plan.name, event).await;
        }
    }

    /// It starts with its host and ends with it; the rest is refused elsewhere.
    fn answer(&self, command: Command) {
        let refused = |what: &str| {
            let message = format!("VM {}: {what}: another VM runs it", self.plan.name);
            Failure::bad_request(message)
        };
        match command {
            Command::Start(reply) | Command::Kill(reply) => drop(reply.send(Ok(()))),
            Command::Type(_, reply) => drop(reply.send(Err(refused("its console takes no input")))),
            Command::Hold(reply)
            | Command::Save(reply)
            | Command::Release(reply)
            | Command::Load(reply)
            | Command::Run(reply) => drop(reply.send(Err(refused("it cannot be frozen by itself")))),
            Command::Commit(reply) => drop(reply.send(Err(refused("it cannot be frozen by itself")))),
        }
    }
}

/// Does something to a VM inside this host, and returns when the host's journal tells of it.
pub(crate) async fn act(vm: &VmHandle, host: &VmHandle, verb: VmVerb) -> Result<(), Failure> {
    let mut view = vm.view();
    let boot = view.borrow_and_update().status.boot;
    ask(vm, host, verb.as_str()).await?;
    let told = view.wait_for(|view| match verb {
        VmVerb::Start | VmVerb::Resume => view.status.state == VmState::Running,
        VmVerb::Kill | VmVerb::Shutdown => view.status.state == VmState::Off,
        VmVerb::Pause => view.status.state == VmState::Paused,
        VmVerb::Reboot => view.status.boot > boot && view.status.state == VmState::Running,
    });
    let is_told = tokio::time::timeout(TOLD_LIMIT, told).await.is_ok();
    if is_told {
        return Ok(());
    }
    let message = format!(
        "VM {}: {} is done, and the journal of its host {} does not tell of it\nhint: is that journal followed? docs/design/nested.md has the names that count there",
        vm.name(),
        verb.as_str(),
        host.name()
    );
    Err(vm.failure(FailureKind::TimedOut, message).await)
}

async fn ask(vm: &VmHandle, host: &VmHandle, verb: &str) -> Result<(), Failure> {
    let agent = host.view().borrow().agent.clone();
    let Some(agent) = agent else {
        return Err(host.off(&format!("cannot {verb} VM {} inside it", vm.name())).await);
    };
    let line = format!("{PROGRAM} {verb} {}", vm.name());
    let why = match agent.run(&AgentCommand::shell(line), LIMIT, LIMIT).await {
        Ok(output) if output.status == Some(0) => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => chain(&error),
    };
    let message = format!("VM {}: its host {} cannot {verb} it: {why}", vm.name(), host.name());
    Err(vm.failure(FailureKind::Failed, message).await)
}
