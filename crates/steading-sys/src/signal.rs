//! Signals as something to read (signalfd(2)).
//!
//! A handler would write into a pipe of its process, and that pipe is shared with the first process
//! of a new group, which is made with no exec: each would take the other's wake-ups. A descriptor
//! of signalfd(2) belongs to its reader: it gives the signals of the reading process.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The signals by which a program is asked to end: Ctrl-C, kill(1), and the end of its terminal.
pub const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// The process that sent it; none if the kernel did, for a key or the end of a terminal.
    pub sender: Option<i32>,
}

/// Those of these signals that this process does not ignore. Who has started it with one ignored
/// (nohup(1), or a shell that puts it into the background) wants it to go on.
pub fn not_ignored(signals: &[Signal]) -> Vec<Signal> {
    let is_ignored = |signal: &&Signal| {
        // SAFETY: all zeros is a valid sigaction, which the call fills.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: no action is given, and the one that is filled outlives the call.
        unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), &raw mut action) };
        action.sa_sigaction == libc::SIG_IGN
    };
    signals.iter().filter(|signal| !is_ignored(signal)).copied().collect()
}

/// Blocks no signal in this thread any more.
pub(crate) fn unblock_all() {
    // SAFETY: all zeros is a valid set, which the call makes an empty one.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives both calls, which a child may make before its exec (signal-safety(7)).
    unsafe {
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Signals that are waited for, not handled.
#[derive(Debug)]
pub struct Signals(AsyncFd<OwnedFd>);

impl Signals {
    /// Blocks these signals in the calling thread, and in those that it starts later, and collects
    /// them. To be called with an event loop.
    ///
    /// The programs that [`crate::process`] starts have none blocked.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn open(signals: &[Signal]) -> io::Result<Self> {
        let (fd, _) = block(signals)?;
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
        Ok(self.next_received().await?.signal)
    }

    /// The same, with its sender.
    ///
    /// # Errors
    ///
    /// None in practice: reading its own descriptor does not fail.
    pub async fn next_received(&self) -> io::Result<Received> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(signal) = ready.try_io(|fd| take(fd.get_ref())) {
                return signal;
            }
        }
    }
}

/// Signals that are waited for by a thread without an event loop, until this is dropped.
#[derive(Debug)]
pub struct Caught {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl Caught {
    /// Blocks these signals in the calling thread, and collects them.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn open(signals: &[Signal]) -> io::Result<Self> {
        let (fd, before) = block(signals)?;
        Ok(Self { fd, before })
    }

    /// Takes one that has come, if any has. Until then the descriptor cannot be read.
    pub fn take(&self) -> Option<Signal> {
        Some(take(&self.fd).ok()?.signal)
    }
}

impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        // SAFETY: the set is one that the same call returned.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Returns the descriptor, and which signals were blocked before.
fn block(signals: &[Signal]) -> io::Result<(OwnedFd, libc::sigset_t)> {
    // SAFETY: a signal set is plain data, which sigemptyset(3) makes valid.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above; the call below fills it.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the calls; the numbers are signals' own.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
    }
    // SAFETY: both sets outlive the call.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: the set outlives the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for the caller.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, before))
}

fn take(signals: &OwnedFd) -> io::Result<Received> {
    // SAFETY: all zeros is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the kernel writes at most `size` bytes, which is what the structure has.
    let read = unsafe { libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size) };
    if read == -1 {
        return Err(io::Error::last_os_error());
    }
    let signal = i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw);
    let signal =
        signal.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a signal without a name"))?;
    // A code above 0 is the kernel's own (sigaction(2), `si_code`).
    let sender = (info.ssi_code <= 0).then(|| i32::try_from(info.ssi_pid).ok()).flatten();
    Ok(Received { signal, sender })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals to one thread, so that those of other tests do not get them.
    fn raise(signal: Signal) {
        // SAFETY: pthread_self(3) is always a thread; the number is a signal's own.
        unsafe { libc::pthread_kill(libc::pthread_self(), signal.as_raw()) };
    }

    #[test]
    fn an_ignored_signal_is_not_waited_for() {
        // SAFETY: ignoring this signal changes nothing for anybody else here.
        unsafe { libc::signal(libc::SIGURG, libc::SIG_IGN) };
        assert_eq!(not_ignored(&[Signal::URG, Signal::USR1]), [Signal::USR1]);
    }

    #[test]
    fn a_caught_signal_is_taken_once_and_afterwards_others_get_it_as_before() {
        let caught = Caught::open(&[Signal::USR2]).unwrap();
        assert_eq!(caught.take(), None);
        raise(Signal::USR2);
        assert_eq!(caught.take(), Some(Signal::USR2));
        assert_eq!(caught.take(), None);
        drop(caught);
        // SAFETY: all zeros is a valid set, which the call fills.
        let mut now: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: no set is given, and the one that is filled outlives the call.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) };
        // SAFETY: the set is valid.
        assert_eq!(unsafe { libc::sigismember(&raw const now, libc::SIGUSR2) }, 0);
    }
}
