//! Groups to test with, in this process or under another, and a look at what is left of them.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use steading_api::{Client, ProcessEvent, ProcessSpec};
use steading_group::{GroupConfig, Owner};
use steading_plan::{Boot, HostFacts, HostResources, Plan, QemuFacts, Testnet, VmSpec};
use steading_vm::engine::prepare;
use steading_vm::image::ImageCache;
use tempfile::TempDir;

/// Before a group's name, a directory and a kind: run such a group in this process.
pub(crate) const RUNNER: &str = "__runner";

/// Makes random delays the same again.
pub(crate) const SEED_VARIABLE: &str = "STEADING_SEED";

/// How soon nothing may be left of a group.
const GONE: Duration = Duration::from_secs(1);

/// How a case ends that does not fail.
pub(crate) enum Outcome {
    /// All was as it should be.
    Passed,
    /// The host lacks something.
    Ignored(String),
}

/// A generator of delays (splitmix64).
#[derive(Clone, Copy)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The one asked for, else another each time.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var(SEED_VARIABLE).ok();
        Self(given.map_or_else(
            || jiff::Timestamp::now().as_microsecond().cast_unsigned(),
            |seed| seed.parse().expect("STEADING_SEED is a number"),
        ))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The directories of one group.
pub(crate) struct Dirs {
    temp: TempDir,
}

impl Dirs {
    pub(crate) fn new() -> Self {
        let dirs = Self { temp: tempfile::tempdir().expect("a directory") };
        for name in ["scratch", "log"] {
            fs_err::create_dir(dirs.path().join(name)).expect("a directory");
        }
        dirs
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.temp.path()).expect("the directory for temporary files is UTF-8")
    }

    /// Fails when a file with a name was left where disks go.
    pub(crate) fn assert_no_scratch_files(&self) {
        let entries = fs_err::read_dir(self.path().join("scratch")).expect("list");
        let left: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(left.is_empty(), "files are left in the scratch directory: {left:?}");
    }
}

/// A VM with a file for a kernel that nobody starts.
pub(crate) fn stopped_vm(dirs: &Utf8Path) -> VmSpec {
    let kernel = dirs.join("kernel");
    fs_err::write(&kernel, "no kernel").expect("write");
    VmSpec::new("still", Boot::Kernel { kernel, initrd: None, cmdline: String::new() }).stopped()
}

/// A VM whose kernel finds no root file system, so it panics, and then stands still.
pub(crate) fn panicking_vm(kernel: Utf8PathBuf) -> VmSpec {
    let cmdline = "console=ttyS0 panic=0 mitigations=off tsc=reliable".to_owned();
    VmSpec::new("doomed", Boot::Kernel { kernel, initrd: None, cmdline }).memory_mib(256)
}

/// The reference guest's kernel; else why there is none.
pub(crate) fn guest_kernel() -> Result<Utf8PathBuf, String> {
    let dir = match std::env::var("STEADING_GUEST") {
        Ok(dir) => Utf8PathBuf::from(dir),
        Err(_) => newest_guest().ok_or("there is no reference guest: guest/build makes one")?,
    };
    let manifest = dir.join("manifest.json");
    let text = fs_err::read_to_string(&manifest).map_err(|error| error.to_string())?;
    let manifest: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let kernel = manifest["kernel"].as_str().ok_or("the reference guest's manifest names no kernel")?;
    Ok(dir.join(kernel))
}

fn newest_guest() -> Option<Utf8PathBuf> {
    let entries = fs_err::read_dir("/var/cache/steading/guest").ok()?;
    let built = entries.flatten().filter_map(|entry| {
        let time = fs_err::metadata(entry.path().join("manifest.json")).ok()?.modified().ok()?;
        Some((time, Utf8PathBuf::try_from(entry.path()).ok()?))
    });
    built.max().map(|(_, dir)| dir)
}

fn config(group: &str, testnet: &Testnet, dirs: &Utf8Path) -> GroupConfig {
    let host =
        HostFacts { resources: HostResources { cpus: 8, memory_mib: 1 << 14 }, qemu: QemuFacts::default() };
    let plan = Plan::derive(&group.parse().expect("a good name"), testnet, &host).expect("a good testnet");
    let cache = ImageCache::open(&dirs.join("cache")).expect("a cache");
    let prepared = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {}).expect("a good VM")).collect();
    GroupConfig { plan, prepared, log_dir: dirs.join("log"), scratch: dirs.join("scratch") }
}

/// A group under this process.
pub(crate) struct Group {
    owner: Owner,
    pub(crate) plan: Plan,
    pub(crate) client: Client,
    pub(crate) traces: Traces,
    runtime: tokio::runtime::Runtime,
    dirs: Dirs,
}

impl Group {
    pub(crate) fn up(name: &str, testnet: impl FnOnce(&Utf8Path) -> Testnet) -> Self {
        let dirs = Dirs::new();
        let config = config(name, &testnet(dirs.path()), dirs.path());
        let plan = config.plan.clone();
        let mut owner = steading_group::spawn(config).expect("namespaces");
        owner.wait_until_ready().expect("a group");
        let traces = Traces::of(owner.pid());
        let client = Client::new(owner.socket_path());
        // It has no thread of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { owner, plan, client, traces, runtime: runtime.expect("an event loop"), dirs }
    }

    pub(crate) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub(crate) fn owner(&self) -> i32 {
        self.owner.pid()
    }

    /// Runs a program inside to its end.
    pub(crate) fn run(&self, argv: &[&str]) -> Ran {
        self.wait_for(async {
            let mut events = self.client.start_process(&spec(argv)).await.expect("a program");
            let mut lines = Vec::new();
            while let Some(event) = events.next().await.expect("an event") {
                match event {
                    ProcessEvent::Started { .. } | ProcessEvent::Note { .. } => {}
                    ProcessEvent::Line { text } => lines.push(text),
                    ProcessEvent::Ended { status, signal, left } => {
                        return Ran { lines, status, signal, left };
                    }
                }
            }
            panic!("the events of {argv:?} ended before it did: {lines:?}")
        })
    }

    /// Ends it as a test would, and looks whether anything is left.
    pub(crate) fn tear_down(self) {
        self.wait_for(self.client.tear_down()).expect("it is torn down");
        let bridge = self.plan.addresses.bridge.clone();
        drop(self.runtime);
        self.traces.assert_gone(&self.dirs);
        assert_eq!(self.owner.wait().expect("it ended"), Some(0));
        let on_host = fs_err::symlink_metadata(format!("/sys/class/net/{bridge}"));
        assert!(on_host.is_err(), "the bridge {bridge} is on the host");
    }
}

/// How a program inside a group went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) lines: Vec<String>,
    pub(crate) status: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) left: Vec<String>,
}

/// A program to run inside.
pub(crate) fn spec(argv: &[&str]) -> ProcessSpec {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    ProcessSpec { name: "program".to_owned(), argv, env: Vec::new() }
}

/// What a group under a [`Runner`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Machine,
    /// A VM to be started from a file that is no kernel.
    NoKernel,
}

impl Kind {
    const ALL: [(Self, &str); 3] =
        [(Self::Empty, "empty"), (Self::Machine, "machine"), (Self::NoKernel, "no-kernel")];

    fn testnet(self, dirs: &Utf8Path) -> Testnet {
        match self {
            Self::Empty => Testnet::new(),
            Self::Machine => Testnet::new().vm(panicking_vm(guest_kernel().expect("a guest"))),
            Self::NoKernel => Testnet::new().vm(VmSpec { autostart: true, ..stopped_vm(dirs) }),
        }
    }
}

/// The part of a [`Runner`] that is killed: tells its stages by lines.
pub(crate) fn run_group(group: &str, dirs: &Utf8Path, kind: &str) {
    let (kind, _) = Kind::ALL.into_iter().find(|(_, name)| *name == kind).expect("a known kind");
    let config = config(group, &kind.testnet(dirs), dirs);
    let mut owner = steading_group::spawn(config).expect("namespaces");
    println!("{}", owner.pid());
    match owner.wait_until_ready() {
        Ok(()) => println!("ready"),
        Err(error) => println!("{}", error.to_string().replace('\n', " | ")),
    }
    println!("ended: {:?}", owner.wait().expect("the owner ended"));
}

/// A group under a process of its own, to be killed.
pub(crate) struct Runner {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) owner: i32,
    pub(crate) traces: Traces,
    dirs: Dirs,
}

impl Runner {
    /// Starts it; its group's owner runs, and has not done anything yet.
    pub(crate) fn spawn(group: &str, kind: Kind) -> Self {
        Self::spawn_with(group, kind, |_| {})
    }

    pub(crate) fn spawn_with(group: &str, kind: Kind, change: impl FnOnce(&mut Command)) -> Self {
        let dirs = Dirs::new();
        let (_, name) = Kind::ALL.into_iter().find(|(known, _)| *known == kind).expect("a known kind");
        let mut command = Command::new(std::env::current_exe().expect("this executable"));
        command.args([RUNNER, group, dirs.path().as_str(), name]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("start a runner");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let owner = lines.next().expect("the owner's number").expect("a line");
        let owner = owner.parse().expect("a number");
        Self { child, lines, owner, traces: Traces::of(owner), dirs }
    }

    /// The next thing that it tells.
    pub(crate) fn hear(&mut self) -> String {
        self.lines.next().expect("another line").expect("a line")
    }

    pub(crate) fn wait_until_ready(&mut self) {
        assert_eq!(self.hear(), "ready");
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(steading_api::socket_path(self.owner))
    }

    /// Kills the runner after a while, and looks whether anything is left.
    pub(crate) fn kill_after(mut self, delay: Duration) {
        let pidfd = pidfd(self.child.id().cast_signed()).expect("it was not waited for");
        // A wait for its end, which does not come, in place of a sleep.
        assert!(!wait_for_end(&pidfd, delay), "the runner ended by itself");
        self.child.kill().expect("kill the runner");
        self.child.wait().expect("wait for the runner");
        self.traces.assert_gone(&self.dirs);
        // Unless the runner did.
        let _ = rustix::process::waitpid(Pid::from_raw(self.owner), WaitOptions::NOHANG);
    }

    /// Looks whether anything is left of a group that has ended otherwise.
    pub(crate) fn assert_gone(mut self) {
        self.child.wait().expect("wait for the runner");
        self.traces.assert_gone(&self.dirs);
        // Unless the runner did.
        let _ = rustix::process::waitpid(Pid::from_raw(self.owner), WaitOptions::NOHANG);
    }
}

/// By what the processes of a group are known from outside.
pub(crate) struct Traces {
    owner: OwnedFd,
    namespace: PathBuf,
}

impl Traces {
    fn of(owner: i32) -> Self {
        let namespace =
            fs_err::read_link(format!("/proc/{owner}/ns/pid")).expect("the owner's PID namespace");
        let here = fs_err::read_link("/proc/self/ns/pid").expect("our PID namespace");
        assert_ne!(namespace, here, "the owner has no PID namespace of its own");
        Self { owner: pidfd(owner).expect("nobody has waited for the owner"), namespace }
    }

    /// The processes of the group that live.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let entries = fs_err::read_dir("/proc").expect("list /proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| self.process(pid)).collect()
    }

    /// The one process of the group with a name that begins so.
    pub(crate) fn only(&self, name: &str) -> Process {
        let mut found: Vec<Process> =
            self.processes().into_iter().filter(|process| process.name.starts_with(name)).collect();
        assert_eq!(found.len(), 1, "one process is named {name}: {found:?}");
        found.remove(0)
    }

    fn process(&self, pid: i32) -> Option<Process> {
        let dir = format!("/proc/{pid}");
        // It may end at any step.
        let namespace = fs_err::read_link(format!("{dir}/ns/pid")).ok()?;
        let stat = fs_err::read_to_string(format!("{dir}/stat")).ok()?;
        // `pid (name) state …`, proc(5); the name may hold anything.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once(" (")?;
        let is_dead = tail.starts_with(['Z', 'X']);
        (namespace == self.namespace && !is_dead).then(|| Process { pid, name: name.to_owned() })
    }

    /// Fails unless the whole group ends within a second.
    fn assert_gone(&self, dirs: &Dirs) {
        let ended = wait_for_end(&self.owner, GONE);
        let left = self.processes();
        if !ended || !left.is_empty() {
            // What failed is not left to the host.
            let _ = rustix::process::pidfd_send_signal(&self.owner, Signal::KILL);
        }
        assert!(ended, "the owner lives on: {left:?}");
        assert!(left.is_empty(), "processes are left: {left:?}");
        dirs.assert_no_scratch_files();
    }
}

/// A process of a group, seen from outside.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
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
