//! One ticket: a file that its holder has locked. Its first line says what is wanted, a second one
//! since when it is held.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::Utf8Path;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Needs;

/// The version of the file.
const VERSION: u32 = 1;

/// More than any ticket has, in bytes.
const LARGEST: u64 = 64 << 10;

/// What a group asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The version of this format.
    steading_ticket: u32,
    /// The group.
    pub group: String,
    /// The program that brings it up.
    pub program: String,
    /// Its process number, in the PID namespace of the next field.
    pub pid: u32,
    /// That PID namespace, as its link in `/proc` tells (pid_namespaces(7)).
    pub pid_namespace: String,
    /// What it reserves.
    #[serde(flatten)]
    pub needs: Needs,
    /// What the same testnet was measured to take before, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_mib: Option<u64>,
    /// Since when it waits.
    pub since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Grant {
    held_since: Timestamp,
}

/// A ticket whose holder is alive.
#[derive(Clone, Debug, Serialize)]
pub struct Ticket {
    /// Its number: the order of the queue.
    pub number: u64,
    /// The user, as the file system tells.
    pub uid: u32,
    /// What was asked for; none where this version cannot read it.
    #[serde(flatten)]
    pub request: Option<Request>,
    /// Since when it is held; none while it waits.
    pub held_since: Option<Timestamp>,
}

impl Request {
    /// That of this process, from now on.
    pub fn new(group: &str, needs: Needs, measured_mib: Option<u64>) -> Self {
        let program = std::env::args_os().next().unwrap_or_default();
        let program = std::path::Path::new(&program).file_name().unwrap_or_default();
        Self {
            steading_ticket: VERSION,
            group: group.to_owned(),
            program: program.to_string_lossy().into_owned(),
            pid: std::process::id(),
            pid_namespace: pid_namespace(),
            needs,
            measured_mib,
            since: Timestamp::now(),
        }
    }

    /// Its process, if that number means anything here.
    pub fn pid_here(&self) -> Option<u32> {
        (self.pid_namespace == pid_namespace() && !self.pid_namespace.is_empty()).then_some(self.pid)
    }
}

fn pid_namespace() -> String {
    let link = fs_err::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Makes a ticket and locks it. The directory's lock must be held: until the ticket is locked it looks
/// dead.
pub(crate) fn create(path: &Utf8Path, request: &Request) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(path.as_std_path(), flags, Mode::from_raw_mode(0o644))?);
    let made = (|| {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Whatever the umask is: who waits must be able to read what others have.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        append(&file, request)
    })();
    match made {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs_err::remove_file(path);
            Err(error)
        }
    }
}

/// Notes that it is held from now on.
pub(crate) fn grant(file: &File) -> io::Result<Timestamp> {
    let held_since = Timestamp::now();
    append(file, &Grant { held_since })?;
    Ok(held_since)
}

fn append(mut file: &File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// What a path says: none if its holder has ended, if there is nothing, or if it cannot be opened, and
/// so nobody can know.
pub(crate) fn read(path: &Utf8Path, number: u64) -> io::Result<Option<Ticket>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path.as_std_path(), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let data = file.metadata()?;
    if !data.is_file() || !is_locked(&file)? {
        return Ok(None);
    }
    let mut text = String::new();
    let is_text = (&file).take(LARGEST).read_to_string(&mut text).is_ok();
    let (request, held_since) = if is_text { parse(&text) } else { (None, None) };
    Ok(Some(Ticket { number, uid: data.uid(), request, held_since }))
}

/// Whether somebody else has it locked. Those who look share their own locks, so they do not take each
/// other for holders.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            rustix::fs::flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Only whole lines count: the last may be just being written.
fn parse(text: &str) -> (Option<Request>, Option<Timestamp>) {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let request = lines.next().and_then(|line| serde_json::from_str::<Request>(line).ok());
    let request = request.filter(|request| request.steading_ticket == VERSION);
    let grant = lines.next().and_then(|line| serde_json::from_str::<Grant>(line).ok());
    (request, grant.map(|grant| grant.held_since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::new("etcd", Needs { cpus: 1, memory_mib: 608 }, Some(300))
    }

    #[test]
    fn a_ticket_counts_while_its_file_is_open_and_tells_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("1.ticket");
        let request = request();
        let file = create(&path, &request).unwrap();
        let ticket = read(&path, 1).unwrap().unwrap();
        assert_eq!((ticket.request.as_ref(), ticket.held_since), (Some(&request), None));
        assert_eq!(ticket.request.unwrap().pid_here(), Some(std::process::id()));
        let since = grant(&file).unwrap();
        assert_eq!(read(&path, 1).unwrap().unwrap().held_since, Some(since));
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(read(&path, 1).unwrap().is_some(), "a copy of the descriptor holds it as well");
        drop(copy);
        assert!(read(&path, 1).unwrap().is_none());
    }

    #[test]
    fn a_line_that_is_not_whole_does_not_count() {
        let line = serde_json::to_string(&request()).unwrap();
        assert_eq!(parse(&line), (None, None));
        let whole = format!("{line}\n");
        assert_eq!(parse(&whole), (Some(request_of(&line)), None));
        assert_eq!(parse(&format!("{whole}{{\"held_since\":\"2026-01-01T00:00:00Z\"}}")).1, None);
        assert!(parse(&format!("{whole}{{\"held_since\":\"2026-01-01T00:00:00Z\"}}\n")).1.is_some());
    }

    fn request_of(line: &str) -> Request {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn another_version_is_alive_and_not_understood() {
        let line = serde_json::to_string(&request())
            .unwrap()
            .replace("\"steading_ticket\":1", "\"steading_ticket\":2");
        assert_eq!(parse(&format!("{line}\n")), (None, None));
    }

    #[test]
    fn a_link_or_a_pipe_is_no_ticket() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("1.ticket")).unwrap();
        assert!(read(&dir.join("1.ticket"), 1).unwrap().is_none());
        assert!(read(&dir.join("2.ticket"), 2).unwrap().is_none());
    }
}
