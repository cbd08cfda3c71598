//! A group's first process where there are no namespaces for it: in the host's, like its parent.
//!
//! The kernel does less for such a group. It still ends each process that the first one starts when that
//! one ends, and gives it whatever those leave behind.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use steading_plan::ProcessMark;

use crate::mark::{self, Life};
use crate::namespace::{Child, Identity, NamespaceError, SetupError, clone};
use crate::process;

/// Starts `body` as a process with a copy of this one's memory; it ends with the status that `body` gives.
///
/// `body` must call [`set_up`] before it does anything else.
///
/// # Errors
///
/// When the process has more than one thread, or when the kernel refuses.
pub fn spawn(body: impl FnOnce() -> u8) -> Result<Child, NamespaceError> {
    clone(0, body)
}

/// Finishes what [`spawn`] began, from inside: leaves the terminal's session, takes in what the programs of
/// this group leave behind, has all that is started from here end with this process, and ties its own life to its
/// parent's.
///
/// Makes the private directory, which is called by the mark of this process, and opens it.
///
/// # Errors
///
/// When any step fails. When the parent has ended already.
pub fn set_up(outer: &Identity, base: &Path) -> Result<(OwnedFd, PathBuf), SetupError> {
    let failed = |step| move |source: io::Error| SetupError { step, source };
    rustix::process::setsid().map_err(|e| failed("leave the terminal's session")(e.into()))?;
    let own = mark::current().map_err(failed("tell which process this is"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("take in orphans")(e.into()))?;
    process::all_end_with_this(&own);
    outer.end_with()?;
    let directory = base.join(own.to_string());
    rustix::fs::mkdir(&directory, Mode::RWXU).map_err(|e| failed("make a private directory")(e.into()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&directory, flags, Mode::empty());
    Ok((opened.map_err(|e| failed("open the private directory")(e.into()))?, directory))
}

/// Ends every child of this process, and those that become its children by that, until there is none. To be
/// called when nothing starts any more.
///
/// One is waited for, and not killed: it has its own way to end, and `limit` for it.
pub fn end_children(spared: Option<Pid>, limit: std::time::Duration) {
    if let Some(spared) = spared {
        wait_at_most(spared, limit);
    }
    loop {
        let found = children();
        for child in &found {
            let _ = rustix::process::kill_process(*child, Signal::KILL);
        }
        // Those that /proc hides have been asked to end with this process.
        if found.is_empty() || wait_for_one().is_none() {
            return;
        }
        while let Ok(Some((_, _))) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

fn wait_for_one() -> Option<(Pid, WaitStatus)> {
    rustix::process::wait(WaitOptions::empty()).ok().flatten()
}

/// Waits for the end of a process, whoever's child it is, and no longer than this.
pub fn wait_at_most(child: Pid, limit: std::time::Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Ok(pidfd) = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()) else { return };
    let limit = Timespec::try_from(limit).unwrap_or_default();
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
}

fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    mark::processes().filter(|pid| mark::parent(*pid) == Some(own)).filter_map(Pid::from_raw).collect()
}

/// The processes of groups whose first process has ended, by their mark
/// ([`steading_plan::env_vars::STEADING_OWNER`]).
pub fn outlived() -> Vec<Pid> {
    let name = format!("{}=", steading_plan::env_vars::STEADING_OWNER);
    let is_outlived = |pid: &i32| {
        // Other users' cannot be read, and are none of ours.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries =
            environment.split(|&byte| byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        let mark = entries.find_map(|entry| entry.strip_prefix(&name)?.parse::<ProcessMark>().ok());
        mark.is_some_and(|mark| mark::life(&mark) == Life::Ended)
    };
    mark::processes().filter(is_outlived).filter_map(Pid::from_raw).collect()
}
