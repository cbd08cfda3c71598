//! Signals as something to read (signalfd(2)).
//!
//! A handler would write into a pipe of its process, and that pipe is shared with the first process
//! of a new group, which is made with no exec: each would take the other's wake-ups. A descriptor
//! of signalfd(2) belongs to whoever reads it: it gives the signals of the reading process.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Signals that are waited for, not handled.
#[derive(Debug)]
pub struct Signals(AsyncFd<OwnedFd>);

impl Signals {
    /// Blocks these signals in the calling thread, and in those that it starts later, and collects
    /// them. To be called with an event loop.
    ///
    /// The programs that [`crate::process`] starts have none blocked: the standard library unblocks
    /// all.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn open(signals: &[Signal]) -> io::Result<Self> {
        let fd = block(signals)?;
        // SAFETY: an OwnedFd is open until it is dropped, and it is dropped with the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(fd?))
    }

    /// Waits for one. Several of one kind that come before they are looked at count as one
    /// (signal(7)).
    ///
    /// # Errors
    ///
    /// None in practice: reading its own descriptor does not fail.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(signal) = ready.try_io(|fd| take(fd.get_ref())) {
                return signal;
            }
        }
    }
}

fn block(signals: &[Signal]) -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain data, which sigemptyset(3) makes valid.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the calls; the numbers are signals' own.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
    }
    // SAFETY: the set outlives the call, and the old one is not asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: the set outlives the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn take(signals: &OwnedFd) -> io::Result<Signal> {
    // SAFETY: all zeros is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the kernel writes at most `size` bytes, which is what the structure has.
    let read = unsafe { libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size) };
    if read == -1 {
        return Err(io::Error::last_os_error());
    }
    let signal = i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw);
    signal.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a signal without a name"))
}
