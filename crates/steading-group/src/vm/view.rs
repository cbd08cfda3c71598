//! What is seen of a VM, and what its task is asked for.

use std::sync::Arc;

use steading_api::{Failure, VmStatus};
use steading_logs::journal::{FollowEvent, Follower, Power};
use steading_vm::agent::GuestAgent;
use steading_vm::engine::{Control, FrozenVm};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

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

/// Where the outcome of a command goes.
pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, Failure>>;

/// What a VM's task is asked for.
pub(super) enum Command {
    Start(ReplyTo<()>),
    Kill(ReplyTo<()>),
    Type(Vec<u8>, ReplyTo<()>),
    /// The steps of a freeze, in this order; see `freeze`.
    Hold(ReplyTo<()>),
    Save(ReplyTo<()>),
    Commit(ReplyTo<FrozenVm>),
    /// Goes on as if there had been no freeze.
    Release(ReplyTo<()>),
    /// The steps from a frozen VM to one that runs.
    Load(ReplyTo<()>),
    Run(ReplyTo<()>),
}

/// The ends of a VM's channels that its task has.
pub(super) struct Ends {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<VmView>,
    pub(super) power: watch::Sender<Power>,
    pub(super) follower: Follower,
    pub(super) journal: mpsc::Receiver<FollowEvent>,
    pub(super) output: broadcast::Sender<Vec<u8>>,
}
