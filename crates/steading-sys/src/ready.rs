//! Descriptors that an event loop waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that can be waited for until it can be read or written. To be called with an event loop.
///
/// # Errors
///
/// When the kernel cannot wait for it: it is a regular file or a directory (epoll_ctl(2), EPERM).
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open until it is dropped, and it is dropped with the AsyncFd.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
