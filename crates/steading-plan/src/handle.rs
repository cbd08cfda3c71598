//! The open files that a QEMU process is started with.
//!
//! A VM's sockets, TAPs and disks have no names on the host: the owner opens them and passes them
//! on by number, so the kernel frees them with the last process that holds them.

use serde::{Deserialize, Serialize};

/// What an inherited file descriptor of a QEMU process is for. Each has a number of its own, so
/// that a command line is known before anything is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handle {
    /// The QMP socket.
    Qmp,
    /// The serial console's socket.
    Console,
    /// The guest agent's socket.
    Agent,
    /// The TAP of the first card.
    Tap,
    /// The TAP of the second card.
    SecondTap,
    /// The kernel.
    Kernel,
    /// The initrd.
    Initrd,
    /// The read-only image below the overlay.
    Image,
    /// The VM's own qcow2 layer.
    Overlay,
    /// The UEFI variables.
    FirmwareVars,
    /// The disk labelled `CONFIG`.
    ConfigDisk,
    /// The cloud-init disk.
    CloudInitDisk,
    /// The Ignition configuration.
    Ignition,
    /// The SMBIOS structure with systemd credentials, the public key that may log in among them.
    Credentials,
    /// Where pictures of the display go.
    Screenshot,
    /// The guest's memory.
    Memory,
    /// The devices' state that a fork begins with.
    State,
    /// The socket of the guest's program that is told when the guest goes on after a freeze.
    Thaw,
}

/// The number of the first credential that goes over fw_cfg; the others follow, and there are never so many
/// that they meet the layers ([`crate::FW_CFG_FILES_MAX`]).
const FIRST_CREDENTIAL: u32 = Handle::Thaw.number() + 1;

/// The number of the first frozen layer of a VM's disk; the others follow.
const FIRST_LAYER: u32 = 100;

impl Handle {
    /// Every handle, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        Self::Qmp,
        Self::Console,
        Self::Agent,
        Self::Tap,
        Self::SecondTap,
        Self::Kernel,
        Self::Initrd,
        Self::Image,
        Self::Overlay,
        Self::FirmwareVars,
        Self::ConfigDisk,
        Self::CloudInitDisk,
        Self::Ignition,
        Self::Credentials,
        Self::Screenshot,
        Self::Memory,
        Self::State,
        Self::Thaw,
    ];

    /// Its number in the QEMU process; 0 to 2 are the standard streams.
    pub const fn number(self) -> u32 {
        self as u32 + 3
    }

    /// As it is written in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qmp => "qmp",
            Self::Console => "console",
            Self::Agent => "agent",
            Self::Tap => "tap",
            Self::SecondTap => "second_tap",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Image => "image",
            Self::Overlay => "overlay",
            Self::FirmwareVars => "firmware_vars",
            Self::ConfigDisk => "config_disk",
            Self::CloudInitDisk => "cloud_init_disk",
            Self::Ignition => "ignition",
            Self::Credentials => "credentials",
            Self::Screenshot => "screenshot",
            Self::Memory => "memory",
            Self::State => "state",
            Self::Thaw => "thaw",
        }
    }

    /// A path that opens it again, for options of QEMU that take a file's name.
    pub fn path(self) -> String {
        format!("/proc/self/fd/{}", self.number())
    }

    /// The number of a credential that goes over fw_cfg, in the order of [`crate::Delivery`].
    pub const fn credential_number(credential: u32) -> u32 {
        FIRST_CREDENTIAL + credential
    }

    /// The number of a frozen layer of the VM's disk in the QEMU process; the oldest is 0.
    pub const fn layer_number(layer: u32) -> u32 {
        FIRST_LAYER + layer
    }
}
