//! The host's end of a TAP whose other end is none of QEMU's: frames are read and written here.

use std::io;
use std::os::fd::OwnedFd;

use steading_plan::IfName;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{TapError, create};

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
