//! What a process inherits from the one that started it, and what would make a group fail in strange ways.
//!
//! A shell, a CI agent or a daemon may have set any of it, mostly without knowing: SIGCHLD is ignored by
//! programs that do not want to wait for their children, signals are blocked in a thread that starts another
//! program, and the number of open files is 1024 since programs that use select(2) can have no more.

use std::io;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::signal::unblock_all;

/// As many files as a program may want open at most; what it starts gets the same limit, and some look at each
/// number up to it.
const FILES_WANTED: u64 = 1 << 16;

/// The files that a group's first process has open by their numbers begin at 900
/// (`steading_api::DIRECTORY_FD`), and a hundred more are enough for those of a group with no VM.
const FILES_NEEDED: u64 = 1024;

/// The process may open too few files.
#[derive(Debug, Error)]
#[error(
    "this process may have {has} files open, and at least {FILES_NEEDED} are needed\nhint: raise the limit where it was lowered: `ulimit -n` in a shell, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container"
)]
pub struct FilesError {
    has: u64,
}

/// Makes this process what it would be if it had been started from a login shell, as far as that matters. For the
/// beginning of a program, while it has one thread.
///
/// - Signals have their usual effects, but for those by which a starter says that a program is to go on: SIGHUP
///   (nohup(1)), and SIGINT and SIGQUIT (a shell without job control).
/// - No signal is blocked.
/// - The number of open files is limited by the hard limit alone, up to 65536.
/// - Files that it makes can be read and written by their owner, whatever the umask.
///
/// Standard streams that are closed lead to `/dev/null`: the standard library does so before `main`.
pub fn normalize() {
    const USUAL: [libc::c_int; 9] = [
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGTSTP,
    ];
    for signal in USUAL {
        // SAFETY: no handler is installed that could run.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_all();
    raise_files();
    let before = rustix::process::umask(Mode::RWXO | Mode::RWXG);
    rustix::process::umask(before - Mode::RWXU);
}

fn raise_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED);
    if current.is_some_and(|current| current < wanted) {
        // What there is may be enough all the same; see `check_files`.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// Whether this process may open as many files as a group needs at least.
///
/// # Errors
///
/// When it may not.
pub fn check_files() -> Result<(), FilesError> {
    let has = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if has < FILES_NEEDED { Err(FilesError { has }) } else { Ok(()) }
}

/// Whether the working directory is gone, so that no relative path leads anywhere.
pub fn is_directory_gone() -> bool {
    std::env::current_dir().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_raised_and_too_low_a_one_is_told_with_both_numbers() {
        raise_files();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert!(current >= Some(maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED)));
        let told = FilesError { has: 900 }.to_string();
        assert!(told.contains("900 files") && told.contains("at least 1024"), "{told}");
    }
}
