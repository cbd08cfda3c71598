//! A handle to a VM, for all who ask something of it.

use std::sync::Arc;

use steading_api::{Failure, FailureKind, VmState, VmStatus};
use steading_logs::journal::JournalPosition;
use steading_plan::{VmName, VmPlan};
use steading_vm::engine::FrozenVm;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::view::{Command, ReplyTo, VmView};
use crate::log::Log;

/// How many of the last console lines a failure shows.
pub(crate) const CONSOLE_SHOWN: usize = 12;

/// A handle to a VM.
#[derive(Clone, Debug)]
pub(crate) struct VmHandle {
    pub(crate) plan: Arc<VmPlan>,
    /// The VM that it runs inside of, if it does.
    pub(crate) host: Option<Arc<VmHandle>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<VmView>,
    pub(crate) log: Log,
    /// What its console says, as it comes.
    pub(crate) output: broadcast::Sender<Vec<u8>>,
    /// Where its journal was read to.
    pub(crate) read_to: watch::Receiver<Option<JournalPosition>>,
}

impl VmHandle {
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

    async fn ask<T>(&self, command: impl FnOnce(ReplyTo<T>) -> Command) -> Result<T, Failure> {
        let ending =
            || Failure::new(FailureKind::VmEnded, format!("VM {}: the group is ending", self.plan.name));
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }

    /// Why something cannot be done to it, or awaited from it, since it is off.
    pub(crate) async fn off(&self, what: &str) -> Failure {
        let reason = self.status().ended.unwrap_or_default();
        self.failure(FailureKind::VmEnded, format!("VM {}: {what}: it is off: {reason}", self.name())).await
    }

    /// Whether nothing more is to be expected of its guest.
    pub(crate) fn is_over(&self, status: &VmStatus) -> bool {
        status.state == VmState::Off || (status.panicked && !self.plan.spec.reboots_on_panic)
    }
}
