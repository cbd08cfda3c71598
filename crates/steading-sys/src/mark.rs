//! Tells a process from all that had its number before or will have it, and whether it still lives.

use std::io;

use fs_err as fs;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use steading_plan::ProcessMark;

use crate::stat::Stat;

/// Whether a process lives, as far as it can be told from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Lives,
    /// It has ended, for good.
    Ended,
    /// Its number means nothing here: it is of another PID namespace.
    Elsewhere,
}

/// The mark of this process.
///
/// # Errors
///
/// When `/proc` is not that of this process's PID namespace, or is not there.
pub fn current() -> io::Result<ProcessMark> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let stat = Stat::parse(&fs::read_to_string("/proc/self/stat")?);
    match stat {
        Some(stat) if stat.pid == pid => {
            Ok(ProcessMark { pid, start: stat.start, namespace: own_namespace()? })
        }
        _ => Err(io::Error::other("/proc is that of another PID namespace")),
    }
}

/// The mark of another process of this PID namespace, if it lives.
pub fn of(pid: i32) -> Option<ProcessMark> {
    let stat = Stat::of(pid)?;
    let namespace = own_namespace().ok()?;
    (!stat.has_ended()).then_some(ProcessMark { pid, start: stat.start, namespace })
}

/// Whether the process with this mark lives.
pub fn life(mark: &ProcessMark) -> Life {
    match own_namespace() {
        Ok(namespace) if namespace == mark.namespace => {}
        _ => return Life::Elsewhere,
    }
    let Some(pid) = Pid::from_raw(mark.pid) else { return Life::Ended };
    // This tells also where /proc hides the processes of others, or those with capabilities (hidepid,
    // proc(5)). EINVAL and ENOENT: the number is now that of a thread (pidfd_open(2)).
    let opened = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    if let Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) = opened {
        return Life::Ended;
    }
    match Stat::of(mark.pid) {
        Some(stat) if stat.start != mark.start || stat.has_ended() => Life::Ended,
        // One that is hidden is there.
        _ => Life::Lives,
    }
}

/// The numbers of all processes that `/proc` shows.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process, if there is such a process and it has not ended.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = Stat::of(pid)?;
    (!stat.has_ended()).then_some(stat.parent)
}

/// The number of this process's PID namespace.
fn own_namespace() -> io::Result<u64> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    let number = link.to_str().and_then(|link| link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/ns/pid is no namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_and_its_number_may_be_anothers() {
        let own = current().unwrap();
        assert_eq!(life(&own), Life::Lives);
        assert_eq!(of(own.pid), Some(own));
        assert_eq!(life(&ProcessMark { start: own.start + 1, ..own }), Life::Ended);
        assert_eq!(life(&ProcessMark { namespace: 1, ..own }), Life::Elsewhere);
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mark = of(child.id().cast_signed()).unwrap();
        assert_eq!(life(&mark), Life::Lives);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(life(&mark), Life::Ended);
    }
}
