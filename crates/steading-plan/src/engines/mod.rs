//! What runs the VMs of a group: an entry for each engine, and what plans, runners and `doctor` ask of it.
//!
//! To add an engine, add its file here with its [`Capabilities`] and its way to a [`Launch`], and its folder in
//! `steading-vm/src/engine/`.

mod libvirt;
mod qemu;
mod simulated;

use crate::command::Launch;
use crate::engine::Engine;
use crate::facts::HostFacts;
use crate::plan_error::PlanError;
use crate::vm_plan::VmPlan;

pub use libvirt::{DOMAIN_DIRECTORY, DomainPaths, domain, libvirt_socket, socket_name};
pub use qemu::THAW_PORT;

impl Engine {
    /// What it can do.
    pub const fn capabilities(self) -> &'static Capabilities {
        match self {
            Self::Qemu => &qemu::CAPABILITIES,
            Self::Libvirt => &libvirt::CAPABILITIES,
            Self::Simulated => &simulated::CAPABILITIES,
        }
    }
}

/// What an engine can do, as data. What is asked of several engines stands here; what one engine alone knows
/// stays in its own folder.
#[derive(Debug)]
pub struct Capabilities {
    /// Why its groups cannot be frozen, hence neither forked nor kept for warm starts. `None` where they can.
    pub no_freeze: Option<&'static str>,
    /// Why its VMs have no display, hence no screenshots. `None` where they can have one.
    pub no_display: Option<&'static str>,
    /// Why its VMs run no VMs inside. `None` where they can.
    pub no_nested: Option<&'static str>,
    /// How its VMs get the host's ends of their network cards.
    pub cards: Cards,
    /// What a VM is.
    pub guests: Guests,
    /// How many credentials go over fw_cfg at most.
    pub fw_cfg_files: usize,
    /// Where in the directory of logs the group's private directory is mounted, for programs that need it to
    /// have a path. `None` where it has none.
    pub named_directory: Option<&'static str>,
    /// What must be installed.
    pub programs: &'static [RequiredProgram],
}

/// How VMs get the host's ends of their network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cards {
    /// As open TAP descriptors.
    Descriptors,
    /// By the names of TAPs that stay when nobody has them open.
    Names,
    /// They have no network.
    None,
}

/// What the VMs of an engine are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    /// Machines that boot images, in processes of their own that take CPUs and memory.
    Booted,
    /// Scripts that behave like machines, within the group's owner.
    Scripted,
}

/// A program that an engine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredProgram {
    /// Its name on `PATH`.
    pub program: &'static str,
    /// The Debian packages that have it, separated by spaces.
    pub package: &'static str,
}

impl Launch {
    /// How the VM at this place in its plan is started.
    pub(crate) fn derive(index: u32, vm: &VmPlan, host: &HostFacts) -> Result<Self, PlanError> {
        if vm.spec.inside.is_some() {
            return Ok(Self::Nested);
        }
        match host.engine {
            Engine::Qemu => Ok(qemu::launch(vm, &host.qemu)),
            Engine::Libvirt => libvirt::launch(index, vm, &host.qemu),
            Engine::Simulated => Ok(Self::Simulated),
        }
    }
}
