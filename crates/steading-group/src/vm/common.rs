//! What all VMs of a group have in common.

use std::sync::Arc;

use steading_vm::engine::VmEngine;

use crate::log::Log;
use crate::taken::Taken;

/// What all VMs of a group have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// What starts the VMs.
    pub(crate) engine: Arc<dyn VmEngine>,
    /// Whether they have network cards, hence journals that can be followed.
    pub(crate) has_network: bool,
    pub(crate) log: Log,
    pub(crate) taken: Taken,
}
