//! TAP devices: the host's end of a VM's network card.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use fs_err as fs;
use steading_plan::IfName;
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
    let device = open_device()?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *target = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("the flags of a TAP fit 16 bits");
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

/// A TAP whose frames this process reads and writes.
#[derive(Debug)]
pub struct TapEnd(AsyncFd<OwnedFd>);

impl TapEnd {
    /// Makes a TAP of this name, to be used in the event loop of the caller.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn create(name: &IfName) -> Result<Self, TapError> {
        let failed = |source| TapError::Create { name: name.clone(), source };
        let device = create(name)?;
        rustix::io::ioctl_fionbio(&device, true).map_err(|error| failed(error.into()))?;
        // SAFETY: an OwnedFd is open until it is dropped, and it is dropped with the AsyncFd.
        let device = unsafe { AsyncFd::register_with_interest(device, Interest::READABLE) };
        Ok(Self(device.map_err(|error| failed(error.into()))?))
    }

    /// Waits until there is a frame.
    ///
    /// # Errors
    ///
    /// When the event loop has ended.
    pub async fn arrival(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut ready| ready.retain_ready())
    }

    /// Takes a frame, with its virtio header; none when there is none, or the interface is down.
    pub fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        let read = self.0.try_io(Interest::READABLE, |device| {
            rustix::io::read(device, &mut *buffer).map_err(|error| match error {
                // Nothing more is to be had until it is said that there is.
                rustix::io::Errno::IO | rustix::io::Errno::BADFD => io::ErrorKind::WouldBlock.into(),
                error => io::Error::from(error),
            })
        });
        read.ok()
    }

    /// Sends a frame, with its virtio header. One that is not taken is lost, as on any wire.
    pub fn give(&self, frame: &[u8]) {
        let _ = rustix::io::write(self.0.get_ref(), frame);
    }
}
