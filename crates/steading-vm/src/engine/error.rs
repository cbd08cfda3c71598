//! What can go wrong between a plan and a running VM.

use camino::Utf8PathBuf;
use steading_plan::VmName;
use steading_sys::process::RunError;
use thiserror::Error;

use super::libvirt::error::LibvirtError;
use crate::disk::DiskError;
use crate::image::ImageError;
use crate::qmp::QmpError;

/// Why a VM cannot be prepared or started.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Its disk image is no good.
    #[error("VM {vm}: cannot prepare its disk")]
    Image {
        /// The VM.
        vm: VmName,
        /// Why.
        source: ImageError,
    },
    /// A configuration disk cannot be made.
    #[error("VM {vm}: cannot make a configuration disk")]
    Disk {
        /// The VM.
        vm: VmName,
        /// Why.
        source: DiskError,
    },
    /// A file that it boots from cannot be opened.
    #[error("VM {vm}: cannot open its {what} {path}: {source}{hint}")]
    Open {
        /// The VM.
        vm: VmName,
        /// What the file is to it.
        what: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// A file of its own cannot be made.
    #[error("VM {vm}: cannot make its {what} in {dir}")]
    Scratch {
        /// The VM.
        vm: VmName,
        /// What was to be made.
        what: &'static str,
        /// Where.
        dir: Utf8PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// QEMU cannot be started.
    #[error("VM {vm}: cannot start it")]
    Start {
        /// The VM.
        vm: VmName,
        /// Why.
        source: RunError,
    },
    /// QEMU's sockets cannot be made.
    #[error("VM {vm}: cannot make a socket pair")]
    Socket {
        /// The VM.
        vm: VmName,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// QEMU started and does not speak.
    #[error("VM {vm}: QEMU did not come up{said}")]
    Qmp {
        /// The VM.
        vm: VmName,
        /// What it said on its error output, with a line break before it; or nothing.
        said: String,
        /// Why the monitor does not answer.
        source: QmpError,
    },
    /// Its memory cannot be had, or not be read.
    #[error("VM {vm}: cannot get at its memory of {mib} MiB")]
    Memory {
        /// The VM.
        vm: VmName,
        /// How much it is.
        mib: u32,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// libvirt cannot be used.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// libvirt cannot start it.
    #[error("VM {vm}: cannot start it")]
    Domain {
        /// The VM.
        vm: VmName,
        /// Why.
        source: LibvirtError,
    },
    /// Its engine cannot start it.
    #[error("VM {vm}: cannot start it: {why}")]
    Refused {
        /// The VM.
        vm: VmName,
        /// Why.
        why: String,
    },
    /// The engine cannot freeze VMs.
    #[error("VM {vm}: its engine cannot freeze it")]
    NoFreeze {
        /// The VM.
        vm: VmName,
    },
    /// QEMU cannot write or take in the state of its devices.
    #[error("VM {vm}: QEMU cannot {action} the state of its devices: {reason}")]
    State {
        /// The VM.
        vm: VmName,
        /// Write or take in.
        action: &'static str,
        /// What QEMU says.
        reason: String,
    },
}
