//! What a group is made from.

use camino::Utf8PathBuf;
use steading_broker::Lease;
use steading_files::ServedFile;
use steading_plan::Plan;
use steading_vm::engine::PreparedVm;

use crate::frozen::{Clock, OpenedGroup};
use crate::isolation::Isolation;

/// What a group is made from.
#[derive(Debug)]
pub struct GroupConfig {
    /// Everything that was derived.
    pub plan: Plan,
    /// What its VMs begin with.
    pub origin: Origin,
    /// What its file server serves from the beginning, as far as its origin does not say.
    pub files: Vec<ServedFile>,
    /// Where logs go; an existing directory.
    pub log_dir: Utf8PathBuf,
    /// Where VMs' disks go, as files without a name; an existing directory with room.
    pub scratch: Utf8PathBuf,
    /// What was reserved for it, and where to write what it takes.
    pub admission: Admission,
    /// How it is kept apart from all else.
    pub isolation: Isolation,
}

/// How a group stands with others that share its machine.
#[derive(Debug, Default)]
pub struct Admission {
    /// What was reserved, if anything was. All processes of the group have it open, and no other.
    pub lease: Option<Lease>,
    /// The file that keeps what this testnet was measured to take, if it is to be measured.
    pub peak: Option<Utf8PathBuf>,
}

impl Admission {
    /// What the log says of the lease.
    pub(crate) fn message(&self) -> Option<String> {
        let lease = self.lease.as_ref()?;
        let (needs, number, waited) = (lease.needs, lease.number, lease.waited.as_secs_f64());
        Some(format!(
            "{needs} are reserved on this machine by ticket {number}, after a wait of {waited:.1} s"
        ))
    }
}

/// What the VMs of a group begin with.
#[derive(Debug)]
pub enum Origin {
    /// Their images and other inputs, in the order of the plan.
    Prepared(Vec<PreparedVm>),
    /// What was kept of another group.
    Frozen(Box<OpenedGroup>, Clock),
}
