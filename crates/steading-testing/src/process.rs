//! Processes that a test has started, and those that these have left.
//!
//! A process tells its end by a pidfd (pidfd_open(2)), so nothing here looks again and again where it
//! could wait.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

/// How soon the kernel has ended all processes of a group whose owner has ended.
const GONE: Duration = Duration::from_secs(1);

/// How long to wait for a file to be written to before it is looked at again.
const MOMENT: Duration = Duration::from_millis(20);

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a child has a number")
}

/// Whether a process ends within this time.
///
/// # Panics
///
/// When the kernel has no descriptor left for it.
pub fn ends_within(child: &Child, limit: Duration) -> bool {
    let pidfd = rustix::process::pidfd_open(pid(child), PidfdFlags::empty()).expect("a pidfd");
    let limit = Timespec::try_from(limit).expect("it is short");
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).expect("poll") > 0
}

/// Waits for the end of a process, and ends it itself when that takes too long.
///
/// # Panics
///
/// When it did.
pub fn wait_for_end(child: &Child, limit: Duration, what: &str) {
    if !ends_within(child, limit) {
        signal(child, Signal::KILL);
        panic!("{what} did not end");
    }
}

/// Sends a signal to a process, which may have ended.
pub fn signal(child: &Child, signal: Signal) {
    let _ = rustix::process::kill_process(pid(child), signal);
}

/// Sends a signal to a process of which only the number is at hand. It may have ended.
///
/// # Panics
///
/// When no process can have that number.
pub fn signal_to(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a PID");
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until a file has this text, which a process is to write, and returns all that it has.
///
/// # Panics
///
/// When the process ends without it, or it takes too long.
pub fn wait_for_text(child: &Child, file: &Path, text: &str, limit: Duration) -> String {
    let began = Instant::now();
    loop {
        // What ends after it was looked for here has written before.
        let has_ended = ends_within(child, MOMENT);
        let said = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
        if said.contains(text) {
            return said;
        }
        assert!(!has_ended, "the program has ended without {text:?} in {}: {said}", file.display());
        assert!(began.elapsed() < limit, "waited for {text:?} in {}: {said}", file.display());
    }
}

/// The processes that have this in their environment (`NAME=value`), but for one. All that a process
/// starts inherits its environment.
///
/// # Panics
///
/// Where there is no `/proc`.
pub fn marked(mark: &str, but: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        *pid != but && environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    pids.filter(is_marked).collect()
}

/// Nothing runs any more that is marked so; the kernel may need a moment.
///
/// # Panics
///
/// When something does.
pub fn assert_nothing_runs(mark: &str, but: u32) {
    let began = Instant::now();
    loop {
        let left = marked(mark, but);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < GONE, "left running: {left:?}");
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn cat(mark: &str) -> Child {
        let (name, value) = mark.split_once('=').unwrap();
        Command::new("cat").env(name, value).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn processes_are_found_by_their_mark_until_they_end() {
        let mark = format!("STEADING_TESTING=found-{}", std::process::id());
        let mut child = cat(&mark);
        assert!(!ends_within(&child, Duration::from_millis(10)));
        // Its environment is there once it has been executed; before, it has ours.
        while marked(&mark, 0).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(marked(&mark, 0), [child.id()]);
        assert!(marked(&mark, child.id()).is_empty());
        signal(&child, Signal::TERM);
        wait_for_end(&child, Duration::from_secs(10), "cat");
        child.wait().unwrap();
        assert_nothing_runs(&mark, 0);
    }

    #[test]
    #[should_panic(expected = "cat did not end")]
    fn what_does_not_end_is_ended_and_told() {
        let mut child = cat("STEADING_TESTING=hangs");
        let outcome = std::panic::catch_unwind(|| wait_for_end(&child, Duration::from_millis(10), "cat"));
        child.wait().unwrap();
        std::panic::resume_unwind(outcome.unwrap_err());
    }
}
