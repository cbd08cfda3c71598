//! What a program leaves behind: processes that it started and that run on when it has ended.

use std::os::fd::OwnedFd;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal};
use steading_sys::ready::watch;
use tokio::io::Interest;
use tokio::time::{Instant, timeout_at};

/// Waits until no process of this group has the mark, or the time is over: a shell that a signal has ended leaves
/// the program that it ran, which has got the same signal and still makes its report. Those that have left the
/// group have got none.
pub(super) async fn wait_for_what_is_left(leader: Pid, mark: &str, until: Instant) {
    let marked = look_for(mark).marked;
    for (pid, _) in marked {
        if rustix::process::getpgid(Some(pid)) != Ok(leader) {
            continue;
        }
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) else { continue };
        let Ok(pidfd) = watch(pidfd, Interest::READABLE) else { continue };
        // It is readable when the process has ended (pidfd_open(2)).
        if timeout_at(until, pidfd.readable()).await.is_err() {
            return;
        }
    }
}

/// How long processes that were killed may take to end, which the kernel delays while it waits for a disk.
const KILLED: Duration = Duration::from_secs(2);

/// Ends every process that carries the mark or belongs to the program's process group, waits until they
/// have ended, and returns their command lines.
pub(super) async fn end_what_is_left(leader: Pid, mark: &str) -> Vec<String> {
    let (names, ends) = kill_what_is_left(leader, mark);
    let until = Instant::now() + KILLED;
    for end in ends {
        let Ok(end) = watch(end, Interest::READABLE) else { continue };
        if timeout_at(until, end.readable()).await.is_err() {
            break;
        }
    }
    names
}

/// Looks again until there is none: one may have started another meanwhile. Each that was found comes with a
/// descriptor that can be read when it has ended.
fn kill_what_is_left(leader: Pid, mark: &str) -> (Vec<String>, Vec<OwnedFd>) {
    /// An exec takes a fraction of a millisecond, unless it waits for a disk.
    const LOOKS_AT_EXECS: usize = 1000;
    let (mut names, mut ends) = (Vec::new(), Vec::new());
    let mut known = Vec::new();
    let mut looks = 0;
    loop {
        let Sight { marked, becoming_another } = look_for(mark);
        let found: Vec<(Pid, String)> = marked.into_iter().filter(|(pid, _)| !known.contains(pid)).collect();
        if becoming_another && looks < LOOKS_AT_EXECS {
            looks += 1;
            std::thread::yield_now();
        } else if found.is_empty() {
            break;
        }
        for (pid, name) in found {
            ends.extend(rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK));
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            known.push(pid);
            names.push(name);
        }
    }
    // For hosts whose /proc is not ours, and for those that cleared their environment.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    (names, ends)
}

/// What a look at all processes tells.
#[derive(Default)]
struct Sight {
    /// Those that carry the mark, with their command lines.
    marked: Vec<(Pid, String)>,
    /// At least one is in the middle of an exec, when it has no environment to look at.
    becoming_another: bool,
}

fn look_for(mark: &str) -> Sight {
    let mut sight = Sight::default();
    let Ok(entries) = fs::read_dir("/proc") else { return sight };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    for pid in pids {
        let dir = Utf8PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        // It may have ended, or be another user's.
        let Ok(environment) = fs::read(dir.join("environ")) else { continue };
        if environment.is_empty() {
            sight.becoming_another |= is_in_exec(&dir);
        } else if environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()) {
            sight.marked.push((pid, command_line(&dir)));
        }
    }
    sight
}

/// Whether a process whose environment was found empty is getting one, or has got it since: between
/// the kernel's `begin_new_exec` and `create_elf_tables` it has none, and no address for it either.
fn is_in_exec(dir: &Utf8Path) -> bool {
    fs::read_to_string(dir.join("stat")).is_ok_and(|stat| may_have_environment(&stat))
}

/// Reads `env_start` and `env_end`, fields 50 and 51 of proc_pid_stat(5). Only a process that cleared
/// its environment has both, and they are the same; one that has ended has none.
fn may_have_environment(stat: &str) -> bool {
    // After the name, which may hold anything, comes the state, field 3.
    let fields = stat.rsplit_once(") ").map(|(_, tail)| tail);
    let mut fields = fields.unwrap_or_default().split_ascii_whitespace();
    let has_ended = fields.next().is_none_or(|state| state == "Z" || state == "X");
    let (from, to) = (fields.nth(50 - 4), fields.next());
    !has_ended && (from == Some("0") || from != to)
}

fn command_line(dir: &Utf8Path) -> String {
    let line = fs::read(dir.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of proc_pid_stat(5), whose fields up to the 49th and the 52nd do not matter.
    fn stat(name: &str, state: char, start: u64, end: u64) -> String {
        format!("7 ({name}) {state}{} {start} {end} 0\n", " 1".repeat(46))
    }

    #[test]
    fn a_process_that_cleared_its_environment_is_not_looked_at_again() {
        assert!(!may_have_environment(&stat("sleep", 'S', 4096, 4096)));
    }

    #[test]
    fn a_process_in_an_exec_and_one_that_has_just_been_are_looked_at_again() {
        assert!(may_have_environment(&stat("sh", 'R', 0, 0)));
        assert!(may_have_environment(&stat("a) b", 'R', 4096, 4100)));
        let ours = fs::read_to_string("/proc/self/stat").expect("our own state");
        assert!(may_have_environment(&ours), "we have an environment: {ours}");
    }

    #[test]
    fn a_process_that_has_ended_is_not_looked_at_again() {
        assert!(!may_have_environment(&stat("sleep", 'Z', 0, 0)));
        assert!(!may_have_environment(""));
    }
}
