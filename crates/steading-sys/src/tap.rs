//! TAP devices: the host's end of a VM's network card.

#[cfg(feature = "driver")]
mod end;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use fs_err as fs;
use steading_plan::IfName;
use thiserror::Error;

#[cfg(feature = "driver")]
pub use end::TapEnd;

const DEVICE: &str = "/dev/net/tun";

/// A TAP that cannot be made.
#[derive(Debug, Error)]
pub enum TapError {
    /// The device node cannot be opened.
    #[error("cannot open {DEVICE}: {source}\nhint: {hint}")]
    Open {
        /// The operating system's reason.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The interface cannot be made.
    #[error("cannot make the TAP {name}")]
    Create {
        /// Its name.
        name: IfName,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Opens the node that TAPs are made with.
pub fn open_device() -> Result<OwnedFd, TapError> {
    let file = fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    let file = file.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "distributions ship it with mode 0666; as root: chmod 0666 /dev/net/tun"
            }
            io::ErrorKind::NotFound => {
                "as root: modprobe tun; mkdir -p /dev/net; mknod -m 0666 /dev/net/tun c 10 200"
            }
            _ => "as root: modprobe tun",
        };
        let source = error.raw_os_error().map_or(error, io::Error::from_raw_os_error);
        TapError::Open { source, hint }
    })?;
    Ok(file.into_parts().0.into())
}

/// Makes a TAP in this network namespace. It exists for as long as the descriptor is open, here or
/// in a process that it was passed to: it needs no owner, and none could be given, since
/// `TUNSETOWNER` takes mapped ids only.
///
/// Frames carry a virtio header (`IFF_VNET_HDR`, `linux/if_tun.h`), so that checksums and
/// segmentation pass through undone between VMs.
pub fn create(name: &IfName) -> Result<OwnedFd, TapError> {
    create_with(name, 0)
}

/// The same where others may have interfaces: one that exists is not opened (`IFF_TUN_EXCL`), not even
/// when the caller has the capability for it.
pub fn create_new(name: &IfName) -> Result<OwnedFd, TapError> {
    create_with(name, libc::IFF_TUN_EXCL)
}

fn create_with(name: &IfName, more: libc::c_int) -> Result<OwnedFd, TapError> {
    let device = open_device()?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *target = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // All 16 bits are flags.
    let flags = u16::try_from(flags | more).expect("the flags of a TAP fit 16 bits");
    request.ifr_ifru.ifru_flags = flags.cast_signed();
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call; an IfName leaves room
    // for the closing NUL.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status == -1 {
        return Err(TapError::Create { name: name.clone(), source: io::Error::last_os_error() });
    }
    Ok(device)
}

/// Makes a TAP in this network namespace that stays when nobody has it open, for the processes of this
/// user to open by its name (`TUNSETPERSIST`, `TUNSETOWNER`, `linux/if_tun.h`). It is gone with the
/// namespace.
pub fn create_lasting(name: &IfName) -> Result<(), TapError> {
    let device = create(name)?;
    let owner = rustix::process::geteuid().as_raw();
    for (request, argument) in [(libc::TUNSETOWNER, libc::c_ulong::from(owner)), (libc::TUNSETPERSIST, 1)] {
        // SAFETY: both take a number, and touch no memory of the caller.
        let status = unsafe { libc::ioctl(device.as_raw_fd(), request, argument) };
        if status == -1 {
            return Err(TapError::Create { name: name.clone(), source: io::Error::last_os_error() });
        }
    }
    Ok(())
}
