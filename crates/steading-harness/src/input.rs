//! This program's standard input, read only while somebody asks for it.
//!
//! A thread that reads ahead, as tokio's own input does, takes keys that are meant for the program that has the
//! terminal next, and is stopped by the kernel when this process is in the background of a shell.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{isatty, tcgetpgrp};
use steading_sys::ready::watch;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Standard input.
#[derive(Debug)]
pub(crate) enum StandardInput {
    /// A pipe, a socket, a terminal.
    Watched(AsyncFd<OwnedFd>),
    /// A file: it never makes anybody wait.
    File,
    /// There is none.
    Nothing,
}

impl StandardInput {
    /// To be called with an event loop.
    pub(crate) fn open() -> Self {
        // Not 0 to 2, should they be closed.
        let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { return Self::Nothing };
        watch(fd, Interest::READABLE).map_or(Self::File, Self::Watched)
    }

    /// The next bytes; 0 at the end. May be dropped while it waits.
    ///
    /// In the background of a shell's terminal it keeps waiting. Its caller then also waits for SIGCONT,
    /// and then asks again.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self::Watched(fd) = self else {
            return match self {
                Self::File => read(buffer).map(|read| read.unwrap_or(0)),
                _ => Ok(0),
            };
        };
        loop {
            if is_in_background() {
                std::future::pending::<()>().await;
            }
            let mut ready = fd.readable().await?;
            // The descriptor blocks, since others have it open, too: it is read only when something is there.
            if is_readable(fd.get_ref())
                && let Some(read) = read(buffer)?
            {
                return Ok(read);
            }
            ready.clear_ready();
        }
    }
}

/// None if it would have had to wait.
fn read(buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(read) => return Ok(Some(read)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            // A terminal that has hung up, or that this process may not read from: there is no more.
            Err(Errno::IO) if isatty(rustix::stdio::stdin()) => return Ok(Some(0)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    // With a time limit of nothing it is not interrupted.
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether another process group has the keys of the terminal that is standard input: reading would stop this one
/// (SIGTTIN, termios(3)).
pub(crate) fn is_in_background() -> bool {
    // An error: it is no terminal, or not the one of this session, which can be read at any time.
    tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|front| front != rustix::process::getpgrp())
}
