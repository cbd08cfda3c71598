//! By what a group is known from outside, and what may be left of it: nothing but its logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use steading_vm::image::ImageCache;
use tempfile::TempDir;

/// How soon nothing may be left of a group.
const GONE: Duration = Duration::from_secs(1);

/// How the directories of cases are named, below the one for temporary files.
const PREFIX: &str = "namespaces-case-";

/// How the interfaces of groups are named.
const INTERFACES: [&str; 3] = ["vbr-", "tap-", "ta4-"];

/// What the log of a group consists of.
const LOGS: [&str; 5] = ["log.jsonl", "test.log", "console.raw", "console.log", "journal.log"];

/// The directories of one group, and what its host was like before it.
pub(crate) struct Dirs {
    temp: TempDir,
    host: Host,
    images: Images,
}

impl Dirs {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub(crate) fn below(dir: &Path) -> Self {
        let temp = tempfile::Builder::new().prefix(PREFIX).tempdir_in(dir).expect("a directory");
        for name in ["scratch", "log"] {
            fs_err::create_dir(temp.path().join(name)).expect("a directory");
        }
        Self { temp, host: Host::look(), images: Images::default() }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.temp.path()).expect("the directory for temporary files is UTF-8")
    }

    /// To be called when all images were unpacked, before the group starts.
    pub(crate) fn remember_images(&mut self) {
        self.images = Images::of(self.path());
    }

    /// What is there now that is neither a log nor was there before.
    pub(crate) fn left(&self) -> Vec<Utf8PathBuf> {
        let mut left = self.host.changes(self.path());
        left.extend(files(&self.path().join("scratch")));
        left.extend(files(&self.path().join("log")).into_iter().filter(|file| !is_log(file)));
        left.extend(sockets(self.path()));
        left
    }

    fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "this is left: {left:#?}");
        if !self.images.0.is_empty() {
            assert_eq!(self.images, Images::of(self.path()), "the image cache is not as it was");
        }
    }
}

fn is_log(file: &Utf8PathBuf) -> bool {
    file.file_name().is_some_and(|name| LOGS.contains(&name))
}

/// All files below a directory.
fn files(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in dir.read_dir_utf8().expect("list a directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its type").is_dir() {
            found.extend(files(entry.path()));
        } else {
            found.push(entry.path().to_owned());
        }
    }
    found
}

fn sockets(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let is_socket = |file: &Utf8PathBuf| {
        fs_err::symlink_metadata(file).is_ok_and(|metadata| metadata.file_type().is_socket())
    };
    files(dir).into_iter().filter(is_socket).collect()
}

/// The images in a group's cache, with their contents.
#[derive(Debug, Default, PartialEq, Eq)]
struct Images(BTreeMap<Utf8PathBuf, (u32, Vec<u8>)>);

impl Images {
    fn of(dirs: &Utf8Path) -> Self {
        let cache = ImageCache::open(&dirs.join("cache")).expect("a cache");
        let listed = cache.list().expect("a list of images").into_iter().map(|entry| entry.path);
        let there = files(&dirs.join("cache/images"));
        assert_eq!(
            there.len(),
            listed.len() * 2,
            "each image has a record, and nothing is beside: {there:?}"
        );
        let read = |file: Utf8PathBuf| {
            let mode = fs_err::metadata(&file).expect("an image").mode();
            let content = fs_err::read(&file).expect("an image");
            (file, (mode, content))
        };
        Self(listed.chain(there).map(read).collect())
    }
}

/// What of the host a group could change.
struct Host {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    temporary: BTreeSet<PathBuf>,
}

impl Host {
    fn look() -> Self {
        Self { mounts: mounts(), interfaces: interfaces(), temporary: temporary() }
    }

    /// What is there that was not, of all that a group could have left.
    fn changes(&self, dirs: &Utf8Path) -> Vec<Utf8PathBuf> {
        let mut changes = Vec::new();
        let mut note = |what: &str, found: &dyn std::fmt::Display| {
            let mut text = what.to_owned();
            let _ = write!(text, " {found}");
            changes.push(Utf8PathBuf::from(text));
        };
        for mount in mounts().difference(&self.mounts) {
            note("the mount", mount);
        }
        for interface in interfaces().difference(&self.interfaces) {
            note("the interface", interface);
        }
        for path in temporary().difference(&self.temporary) {
            note("the file", &path.display());
        }
        for socket in bound_sockets(dirs) {
            note("the socket", &socket);
        }
        changes
    }
}

/// Lines of proc_pid_mountinfo(5), without the parts that number mounts. Logins of users mount
/// below /run.
fn mounts() -> BTreeSet<String> {
    let text = fs_err::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let described = text.lines().filter_map(|line| line.splitn(3, ' ').nth(2));
    described.filter(|line| !line.contains(" /run/")).map(str::to_owned).collect()
}

/// Interfaces of our own network namespace that are named as those of groups are.
fn interfaces() -> BTreeSet<String> {
    let text = fs_err::read_to_string("/proc/self/net/dev").expect("the interfaces");
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    names.filter(|name| INTERFACES.iter().any(|prefix| name.starts_with(prefix))).collect()
}

/// Names of sockets in our own network namespace that belong to this group. A connection to any
/// group's owner has the name of that owner's control socket, so there only a listener tells.
fn bound_sockets(dirs: &Utf8Path) -> BTreeSet<String> {
    const LISTENS: &str = "00010000";
    let control = format!("/fd/{}", steading_api::DIRECTORY_FD);
    let text = fs_err::read_to_string("/proc/self/net/unix").expect("the sockets");
    let named = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let flags = fields.next()?;
        Some((flags, fields.nth(3)?))
    });
    let ours = named.filter(|(flags, name)| {
        name.contains(dirs.as_str()) || (*flags == LISTENS && name.contains(&control))
    });
    ours.map(|(_, name)| name.to_owned()).collect()
}

/// The directory for temporary files, which is this case's own, and from those that everybody
/// shares what is named as QEMU or dnsmasq would name it.
fn temporary() -> BTreeSet<PathBuf> {
    let list = |dir: &Path| {
        let entries = fs_err::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>());
        entries.unwrap_or_default().into_iter().map(|entry| entry.path())
    };
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let own = std::env::temp_dir();
    let suspicious = |path: &PathBuf| {
        let name = name(path);
        ["qemu", "dnsmasq"].iter().any(|word| name.contains(word)) || name.starts_with("vl.")
    };
    let shared = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/var/lib/misc"].map(Path::new);
    let shared = shared.into_iter().filter(|dir| *dir != own);
    let mut found: BTreeSet<PathBuf> = shared.flat_map(list).filter(suspicious).collect();
    found.extend(list(&own).filter(|path| !name(path).starts_with(PREFIX)));
    found
}

/// By what a group is known from outside.
pub(crate) struct Traces(Option<Seen>);

/// What was seen of an owner while it lived.
struct Seen {
    owner: OwnedFd,
    namespace: PathBuf,
    network: PathBuf,
}

impl Seen {
    /// Nothing of an owner that has ended: its runner has waited for it, or may at any moment.
    fn of(owner: i32) -> Option<Self> {
        let link = |process: &str, kind: &str| fs_err::read_link(format!("/proc/{process}/ns/{kind}")).ok();
        let own = |kind| {
            let namespace = link(&owner.to_string(), kind)?;
            assert_ne!(Some(&namespace), link("self", kind).as_ref(), "the owner has no {kind} namespace");
            Some(namespace)
        };
        Some(Self { owner: pidfd(owner).ok()?, namespace: own("pid")?, network: own("net")? })
    }
}

impl Traces {
    /// To be asked at once: a group that does not come up ends soon, and has no traces then. With it
    /// ends its PID namespace, before anybody can have waited for its owner (pid_namespaces(7)).
    pub(crate) fn of(owner: i32) -> Self {
        Self(Seen::of(owner))
    }

    fn seen(&self) -> &Seen {
        self.0.as_ref().expect("the owner had ended before it was looked at")
    }

    /// The processes of the group that live.
    pub(crate) fn processes(&self) -> Vec<Process> {
        inside("pid", &self.seen().namespace)
    }

    /// The one process of the group with a name that begins so, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Process> {
        let mut found: Vec<Process> =
            self.processes().into_iter().filter(|process| process.name.starts_with(name)).collect();
        assert!(found.len() < 2, "no two processes are named {name}: {found:?}");
        found.pop()
    }

    /// The one process of the group with a name that begins so.
    pub(crate) fn only(&self, name: &str) -> Process {
        self.find(name).unwrap_or_else(|| panic!("no process is named {name}: {:?}", self.processes()))
    }

    /// Kills the owner, unless it has ended.
    pub(crate) fn kill_owner(&self) -> bool {
        rustix::process::pidfd_send_signal(&self.seen().owner, Signal::KILL).is_ok()
    }

    /// Kills the one process of the group with a name that begins so, if there is one now.
    pub(crate) fn kill(&self, name: &str) -> bool {
        let Some(pidfd) = self.find(name).and_then(|process| pidfd(process.pid).ok()) else { return false };
        // Its number may be another's since it was found.
        let is_it = self.find(name).is_some();
        is_it && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    }

    /// Fails unless, within a second, nothing is left: no process, no network namespace, and of
    /// interfaces, mounts, sockets and files only what was there before, logs, and the image cache.
    pub(crate) fn assert_gone(&self, dirs: &Dirs) {
        if let Some(seen) = &self.0 {
            let ended = wait_for_end(&seen.owner, GONE);
            let (left, inside) = (self.processes(), inside("net", &seen.network));
            if !ended || !left.is_empty() {
                // What failed is not left to the host.
                let _ = rustix::process::pidfd_send_signal(&seen.owner, Signal::KILL);
            }
            assert!(ended, "the owner lives on: {left:?}");
            assert!(left.is_empty(), "processes are left: {left:?}");
            assert!(inside.is_empty(), "the network namespace is kept by {inside:?}");
        }
        dirs.assert_nothing_left();
    }
}

/// The processes that live in a namespace.
fn inside(kind: &str, namespace: &Path) -> Vec<Process> {
    let entries = fs_err::read_dir("/proc").expect("list /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Process::inside(pid, kind, namespace)).collect()
}

/// A process of a group, seen from outside.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
}

impl Process {
    fn inside(pid: i32, kind: &str, wanted: &Path) -> Option<Self> {
        let dir = format!("/proc/{pid}");
        // It may end at any step.
        let namespace = fs_err::read_link(format!("{dir}/ns/{kind}")).ok()?;
        let stat = fs_err::read_to_string(format!("{dir}/stat")).ok()?;
        // `pid (name) state …`, proc(5); the name may hold anything.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once(" (")?;
        let is_dead = tail.starts_with(['Z', 'X']);
        (namespace == wanted && !is_dead).then(|| Self { pid, name: name.to_owned() })
    }
}

/// Kills a process by its number here.
pub(crate) fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process number");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill a process");
}

pub(crate) fn pidfd(pid: i32) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// Whether a process ends within this time.
pub(crate) fn wait_for_end(pidfd: &OwnedFd, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("it is short");
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(error) => assert_eq!(error, rustix::io::Errno::INTR, "poll a process"),
        }
    }
}
