//! Groups to test with, in this process or under another, to be killed.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, WaitOptions};
use steading_api::{Client, ClientError, Lines, ProcessEvent, ProcessSpec, Streams};
use steading_group::{Admission, GroupConfig, Isolation, Origin, Owner};
use steading_plan::{Boot, HostFacts, ImageSource, Plan, Testnet, VmSpec};
use steading_vm::engine::prepare;
use steading_vm::image::ImageCache;
use tokio::runtime::Runtime;

use crate::traces::{Dirs, Traces, kill, pidfd, wait_for_end};

/// Before a group's name, a directory, a kind and a span: run such a group in this process.
pub(crate) const RUNNER: &str = "__runner";

/// How long something may take that takes moments.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Makes random delays the same again.
pub(crate) const SEED_VARIABLE: &str = "STEADING_SEED";

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

/// A VM with a file for a kernel that nobody starts.
pub(crate) fn stopped_vm(dirs: &Utf8Path) -> VmSpec {
    let kernel = dirs.join("kernel");
    fs_err::write(&kernel, "no kernel").expect("write");
    VmSpec::new("still", Boot::Kernel { kernel, initrd: None, cmdline: String::new() }).stopped()
}

/// A VM whose kernel finds no root file system, so it panics, and then stands still.
pub(crate) fn panicking_vm(kernel: Utf8PathBuf) -> VmSpec {
    let cmdline = "console=ttyS0 panic=0 mitigations=off tsc=reliable no_timer_check".to_owned();
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

/// What is derived for this testnet, on a large host.
pub(crate) fn plan(group: &str, testnet: &Testnet) -> Plan {
    let host = HostFacts::default();
    Plan::derive(&group.parse().expect("a good name"), testnet, &host).expect("a good testnet")
}

fn config(group: &str, testnet: &Testnet, dirs: &Utf8Path) -> GroupConfig {
    let plan = plan(group, testnet);
    let cache = ImageCache::open(&dirs.join("cache")).expect("a cache");
    let prepared = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {}).expect("a good VM")).collect();
    GroupConfig {
        plan,
        origin: Origin::Prepared(prepared),
        files: Vec::new(),
        log_dir: dirs.join("log"),
        scratch: dirs.join("scratch"),
        admission: Admission::default(),
        isolation: Isolation::default(),
    }
}

/// An event loop without a thread of its own.
pub(crate) fn event_loop() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop")
}

/// A group under this process.
pub(crate) struct Group {
    owner: Owner,
    pub(crate) plan: Plan,
    pub(crate) client: Client,
    pub(crate) traces: Traces,
    runtime: Runtime,
    dirs: Dirs,
}

impl Group {
    pub(crate) fn up(name: &str, testnet: impl FnOnce(&Utf8Path) -> Testnet) -> Self {
        let mut dirs = Dirs::new();
        let config = config(name, &testnet(dirs.path()), dirs.path());
        dirs.remember_images();
        let plan = config.plan.clone();
        let mut owner = steading_group::spawn(config).expect("namespaces");
        owner.wait_until_ready().expect("a group");
        let traces = Traces::of(owner.pid());
        let client = Client::new(owner.socket_path());
        Self { owner, plan, client, traces, runtime: event_loop(), dirs }
    }

    /// The same, serving one more file of its directory.
    pub(crate) fn serving(self, name: &str) -> Self {
        let source = steading_plan::FileSource::new(self.path(name));
        self.wait_for(self.client.add_file(&source)).expect("it is served");
        self
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        self.dirs.path().join(name)
    }

    pub(crate) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub(crate) fn owner(&self) -> i32 {
        self.owner.pid()
    }

    /// Runs a program inside to its end.
    pub(crate) fn run(&self, argv: &[&str]) -> Ran {
        self.wait_for(self.ran(argv))
    }

    pub(crate) async fn ran(&self, argv: &[&str]) -> Ran {
        run_to_its_end(&self.client, argv).await.expect("its end is told")
    }

    /// Ends it as a test would, and looks whether anything is left.
    pub(crate) fn tear_down(self) {
        self.wait_for(self.client.tear_down()).expect("it is torn down");
        self.ended();
    }

    /// Looks whether anything is left of a group that was torn down.
    pub(crate) fn ended(self) {
        drop(self.runtime);
        self.traces.assert_gone(&self.dirs);
        assert_eq!(self.owner.wait().expect("it ended"), Some(0));
    }
}

/// How a program inside a group went.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) lines: Vec<String>,
    pub(crate) status: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) left: Vec<String>,
}

async fn run_to_its_end(client: &Client, argv: &[&str]) -> Result<Ran, ClientError> {
    let mut events = client.start_process(&spec(argv)).await?;
    let mut lines = Vec::new();
    while let Some(event) = events.next().await? {
        if let ProcessEvent::Line { text } = event {
            lines.push(text);
        } else if let ProcessEvent::Ended { status, signal, left } = event {
            return Ok(Ran { lines, status, signal, left });
        }
    }
    panic!("the events of {argv:?} ended before it did: {lines:?}")
}

/// A program to run inside.
pub(crate) fn spec(argv: &[&str]) -> ProcessSpec {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    ProcessSpec { name: "program".to_owned(), argv, env: Vec::new(), streams: Streams::Lines }
}

/// What a group under a [`Runner`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    /// A VM with an image, whose kernel panics.
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
            Self::Machine => {
                let disk = dirs.join("disk");
                fs_err::write(&disk, vec![0xa5; 1 << 16]).expect("write an image");
                let vm = panicking_vm(guest_kernel().expect("a guest"));
                Testnet::new().vm(vm.disk(ImageSource::new(disk)))
            }
            Self::NoKernel => Testnet::new().vm(VmSpec { autostart: true, ..stopped_vm(dirs) }),
        }
    }
}

/// How far a [`Runner`] goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// It brings the group up, and waits for its end.
    Up,
    /// It also has a program run inside to its end, and tears the group down.
    Life,
}

impl Span {
    const ALL: [(Self, &str); 2] = [(Self::Up, "up"), (Self::Life, "life")];
}

fn name_of<T: PartialEq>(all: &[(T, &'static str)], wanted: &T) -> &'static str {
    all.iter().find(|(known, _)| known == wanted).expect("it is listed").1
}

fn by_name<T: Copy>(all: &[(T, &'static str)], name: &str) -> T {
    all.iter().find(|(_, known)| *known == name).expect("a known name").0
}

/// The part of a [`Runner`] that is killed: tells its stages by lines.
pub(crate) fn run_group(group: &str, dirs: &Utf8Path, kind: &str, span: &str) {
    let config = config(group, &by_name(&Kind::ALL, kind).testnet(dirs), dirs);
    let mut owner = steading_group::spawn(config).expect("namespaces");
    println!("{}", owner.pid());
    match owner.wait_until_ready() {
        Ok(()) => {
            println!("ready");
            if by_name(&Span::ALL, span) == Span::Life {
                live(&Client::new(owner.socket_path()));
            }
        }
        Err(error) => println!("{}", error.to_string().replace('\n', " | ")),
    }
    println!("ended: {:?}", owner.wait().expect("the owner ended"));
}

/// A program at work for a while, which leaves another; then the teardown. Any step may find that
/// somebody has killed the owner.
fn live(client: &Client) {
    let argv = ["sh", "-c", "setsid sleep 1001 & exec sleep 0.05"];
    event_loop().block_on(async {
        let ran = run_to_its_end(client, &argv).await;
        println!("{ran:?}");
        // Until now, whoever watches may not have looked who we are.
        std::io::stdin().read_line(&mut String::new()).expect("a line");
        println!("{:?}", client.tear_down().await);
    });
}

/// Which process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Runner,
    Owner,
    Router,
    Qemu,
}

/// A group under a process of its own, to be killed.
pub(crate) struct Runner {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) owner: i32,
    pub(crate) traces: Traces,
    dirs: Dirs,
}

impl Runner {
    /// Starts it; its group's owner runs, and has not done anything yet.
    pub(crate) fn spawn(group: &str, kind: Kind) -> Self {
        Self::spawn_for(Span::Up, group, kind)
    }

    pub(crate) fn spawn_for(span: Span, group: &str, kind: Kind) -> Self {
        Self::start(Dirs::new(), span, group, kind, &[], |_| {})
    }

    pub(crate) fn spawn_with(group: &str, kind: Kind, change: impl FnOnce(&mut Command)) -> Self {
        Self::start(Dirs::new(), Span::Up, group, kind, &[], change)
    }

    /// Starts it by another program, which is given its command line at the end of its own.
    pub(crate) fn start(
        dirs: Dirs,
        span: Span,
        group: &str,
        kind: Kind,
        by: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let me = std::env::current_exe().expect("this executable");
        let mut command = match by {
            [] => Command::new(me),
            [by, args @ ..] => {
                let mut command = Command::new(by);
                command.args(args).arg(me);
                command
            }
        };
        command.args([RUNNER, group, dirs.path().as_str()]);
        command.args([name_of(&Kind::ALL, &kind), name_of(&Span::ALL, &span)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("start a runner");
        let stdin = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let owner = lines.next().expect("the owner's number").expect("a line");
        let owner = owner.parse().expect("a number");
        let mut runner = Self { child, stdin, lines, owner, traces: Traces::of(owner), dirs };
        // It may have been quick to fail.
        let _ = runner.stdin.write_all(b"seen\n");
        runner.dirs.remember_images();
        runner
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

    /// Has a program run inside that has two children and ends with none: it stands for a function.
    /// The events must be kept for as long as it is to run.
    pub(crate) async fn set_to_work(&self) -> Lines<ProcessEvent> {
        let argv = ["sh", "-c", "setsid sleep 1001 & sleep 1002 & echo at work; wait"];
        let mut events = self.client().start_process(&spec(&argv)).await.expect("a program");
        while let Some(event) = events.next().await.expect("an event") {
            if matches!(event, ProcessEvent::Line { .. }) {
                return events;
            }
        }
        panic!("the program ended before it was at work")
    }

    /// Asks for the teardown without waiting for an answer: a stopped owner gives none.
    pub(crate) fn ask_for_teardown(&self) -> UnixStream {
        let mut socket = UnixStream::connect(steading_api::socket_path(self.owner)).expect("it listens");
        let request = b"POST /teardown HTTP/1.1\r\nhost: group\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(request).expect("it is asked");
        socket
    }

    /// Stops the owner, or lets it go on.
    pub(crate) fn signal_owner(&self, signal: Signal) {
        let owner = Pid::from_raw(self.owner).expect("a process number");
        rustix::process::kill_process(owner, signal).expect("signal the owner");
    }

    /// Kills one process, if there is such a one now.
    pub(crate) fn kill(&mut self, victim: Victim) -> bool {
        let pid = match victim {
            Victim::Runner => self.child.id().cast_signed(),
            // It may have ended, and been waited for.
            Victim::Owner => return self.traces.kill_owner(),
            Victim::Router => return self.traces.kill("dnsmasq"),
            Victim::Qemu => return self.traces.kill("vm-doomed"),
        };
        kill(pid);
        true
    }

    /// Whether the runner ends by itself within this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        wait_for_end(&pidfd(self.child.id().cast_signed()).expect("it was not waited for"), limit)
    }

    /// Kills the runner after a while, and looks whether anything is left.
    pub(crate) fn kill_after(mut self, delay: Duration) {
        // A wait for its end, which does not come, in place of a sleep.
        assert!(!self.ends_within(delay), "the runner ended by itself");
        self.kill(Victim::Runner);
        self.assert_gone();
    }

    /// Looks whether anything is left of a group that is about to end, whatever the reason.
    pub(crate) fn assert_gone(mut self) {
        let ended = self.ends_within(SOON);
        if !ended {
            kill(self.child.id().cast_signed());
        }
        self.child.wait().expect("wait for the runner");
        self.traces.assert_gone(&self.dirs);
        assert!(ended, "the runner did not end");
        // Unless the runner did.
        let _ = rustix::process::waitpid(Pid::from_raw(self.owner), WaitOptions::NOHANG);
    }
}
