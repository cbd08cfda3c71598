//! What a VM is between the steps of a freeze.

use steading_api::VmState;
use steading_vm::engine::{FrozenVm, Saved, Successors};

/// A VM that is held for a freeze.
pub(super) struct Hold {
    /// Its state before.
    pub(super) state: VmState,
    pub(super) saved: Option<SavedVm>,
}

/// What was saved of a VM that is held.
pub(super) struct SavedVm {
    pub(super) machine: Option<Saved>,
    pub(super) successors: Successors,
}

/// A VM that was frozen while it was on, and is to go on from there.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) frozen: FrozenVm,
    /// What it was doing.
    pub(super) state: VmState,
}
