//! Engines: from a planned VM to a machine that runs, and what the host must have for it.
//!
//! Each engine has a folder. It implements [`VmEngine`], which starts machines, and [`Control`], which acts on
//! one that runs; [`set_up`] knows them all. The group knows none of them.

mod control;
mod error;
mod files;
mod frozen;
mod libvirt;
mod machine;
mod prepared;
mod qemu;
mod set_up;
mod simulated;

pub use control::{Boxed, Button, Control, ControlError, Wake};
pub use error::EngineError;
pub use files::{Successors, VmFiles};
pub use frozen::{FrozenNames, FrozenVm, Saved, reopen};
pub use libvirt::LibvirtError;
pub use machine::{EngineConfig, Machine, MachineEvent, MachineEvents, Start, VmEngine};
pub use prepared::{FIRMWARE_VARS, PreparedVm};
pub use qemu::{
    AccelerationChoice, FIRMWARE_CODE, QEMU, QEMU_PACKAGE, choose_acceleration, cpu, disabled_features,
    qemu_version,
};
pub use set_up::{prepare, set_up};
