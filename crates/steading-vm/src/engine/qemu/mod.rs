//! QEMU, started by the group's owner, which speaks QMP with each.

mod accel;
mod control;
mod features;
mod host;
mod memory;
mod pipes;
mod process;
mod remembered;
mod save;
mod stream;

pub use accel::{AccelerationChoice, choose_acceleration};
pub(super) use control::{events, kill, read_screenshot};
pub use features::disabled_features;
pub use host::{cpu, qemu_version};
pub(super) use process::Qemu;

/// The QEMU program for the only architecture so far.
pub const QEMU: &str = "qemu-system-x86_64";

/// The Debian package that has it.
pub const QEMU_PACKAGE: &str = "qemu-system-x86";

/// Where Debian's package `ovmf` puts the firmware's read-only part.
pub const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
