//! The QEMU engine: from a planned VM to a running process, and what its host must have for it.

mod accel;
mod error;
mod features;
mod files;
mod frozen;
mod host;
mod machine;
mod memory;
mod pipes;
mod remembered;
mod save;
mod stream;

pub use accel::{AccelerationChoice, choose_acceleration};
pub use error::EngineError;
pub use features::disabled_features;
pub use files::{PreparedVm, Successors, VmFiles, prepare};
pub use frozen::{FrozenNames, FrozenVm, reopen};
pub use host::{cpu, qemu_version};
pub use machine::{Machine, STATE_NUMBER, kill};
pub use memory::GuestMemory;
pub use save::{Saved, load, save};

/// The QEMU program for the only architecture so far.
pub const QEMU: &str = "qemu-system-x86_64";

/// The Debian package that has it.
pub const QEMU_PACKAGE: &str = "qemu-system-x86";

/// Where Debian's package `ovmf` puts the firmware's read-only part.
pub const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// Where it puts the variables that each VM gets a copy of.
pub const FIRMWARE_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
