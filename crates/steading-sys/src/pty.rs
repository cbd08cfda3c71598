//! Pseudo-terminals (pty(7)) for programs that are to have a terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Pid;
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end of the one that shows what the program writes, and types. It does not block.
    pub ours: OwnedFd,
    /// The program's end.
    pub theirs: OwnedFd,
}

impl Pty {
    /// A terminal of this size, which echoes and edits lines as terminals do at first.
    ///
    /// # Errors
    ///
    /// When the kernel has none left (`/proc/sys/kernel/pty/max`), or `/dev/ptmx` cannot be opened.
    pub fn open(columns: u16, rows: u16) -> io::Result<Self> {
        // SAFETY: posix_openpt(3) has no preconditions.
        let ours = owned(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) })?;
        // SAFETY: the descriptor is open, and the call changes no memory.
        if unsafe { libc::unlockpt(ours.as_raw_fd()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // By the other end, not by its name: in a container that may lead to another terminal
        // (ioctl_tty(2)).
        // SAFETY: the descriptor is a terminal's, and the argument is the flags themselves.
        let theirs = owned(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
        resize(&ours, columns, rows)?;
        let mut modes = tcgetattr(&theirs)?;
        // Else erasing a character beyond ASCII takes a part of it.
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&theirs, OptionalActions::Now, &modes)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok(Self { ours, theirs })
    }
}

/// Gives a terminal another size, of which its programs are told by SIGWINCH.
///
/// # Errors
///
/// When this is no terminal.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The process group that has a terminal's keys, by the end that is not the programs'.
pub fn foreground(ours: BorrowedFd<'_>) -> Option<Pid> {
    rustix::termios::tcgetpgrp(ours).ok()
}

/// Begins a session, whose terminal is this process's standard input. For a child before its exec.
pub(crate) fn lead_session_of_stdin() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    Ok(())
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::process::{Program, ProgramStreams};

    #[test]
    fn a_program_on_a_terminal_has_it_as_its_controlling_terminal() {
        let Pty { ours, theirs } = Pty::open(91, 17).unwrap();
        // The test reads to the end, however long that takes.
        rustix::io::ioctl_fionbio(&ours, false).unwrap();
        let argv = ["sh", "-c", "stty size; echo to the terminal >/dev/tty"].map(str::to_owned);
        let program = Program {
            argv: argv.into(),
            package: None,
            env: Vec::new(),
            cwd: None,
            fds: Vec::new(),
            network_capabilities: false,
        };
        let started = program.start_on(ProgramStreams::Terminal { theirs, errors_apart: false }).unwrap();
        assert!(started.stdin.is_none() && started.stdout.is_none() && started.stderr.is_none());
        let mut said = Vec::new();
        // Its end is an error here: nobody has the other end any more (pty(7)).
        let _ = std::fs::File::from(ours).read_to_end(&mut said);
        assert_eq!(String::from_utf8(said).unwrap(), "17 91\r\nto the terminal\r\n");
    }
}
