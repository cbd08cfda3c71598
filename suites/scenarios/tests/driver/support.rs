use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than any scenario takes.
const LIMIT: Duration = Duration::from_secs(120);

/// One scenario, with a directory of its own.
pub(crate) struct Scenario {
    name: String,
    pub(crate) dir: TempDir,
    pub(crate) command: Command,
}

/// How a scenario ended.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) results: Value,
    pub(crate) trace: Vec<String>,
    /// Kept until everything was looked at.
    pub(crate) dir: TempDir,
}

pub(crate) fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_scenarios")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_scenarios").into())
        .into()
}

impl Scenario {
    pub(crate) fn new(name: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program());
        command
            .args(args)
            .current_dir(&dir)
            .env("SCENARIO", name)
            .env("SCENARIO_DIR", dir.path())
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::from(file_in(&dir, "stdout")))
            .stderr(Stdio::from(file_in(&dir, "stderr")));
        Self { name: name.to_owned(), dir, command }
    }

    /// Runs another file with the same program in it.
    pub(crate) fn replace_program(&mut self, file: &Path) {
        let mut command = Command::new(file);
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
            .stdout(Stdio::from(file_in(&self.dir, "stdout")))
            .stderr(Stdio::from(file_in(&self.dir, "stderr")));
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
    }

    /// Lets functions that meet go on once so many are there at the same time.
    pub(crate) fn meeting(self, count: usize) -> Self {
        let listener = UnixListener::bind(self.dir.path().join("meeting")).expect("a socket");
        std::thread::spawn(move || {
            let guests: Vec<_> = (0..count).map(|_| listener.accept().expect("a guest").0).collect();
            for mut guest in guests {
                guest.write_all(&[1]).expect("it waits");
            }
        });
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Ran {
        let child = self.command.spawn().expect("the program starts");
        self.wait(child)
    }

    /// Waits for its end, and reads what it left.
    pub(crate) fn wait(self, mut child: Child) -> Ran {
        let pid = child.id();
        wait_for_end(&child, LIMIT, &self.name);
        let status = child.wait().expect("its end");
        let text = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let trace = text("trace").lines().map(str::to_owned).collect();
        let results = find_results(self.dir.path()).map_or(Value::Null, |path| {
            serde_json::from_slice(&std::fs::read(path).expect("results")).expect("results are JSON")
        });
        assert_nothing_runs(self.dir.path(), pid);
        Ran { status, stdout: text("stdout"), stderr: text("stderr"), results, trace, dir: self.dir }
    }
}

impl Ran {
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// How a function ended, as it stands in the results: a word, or an object.
    pub(crate) fn outcome(&self, name: &str) -> &Value {
        let functions =
            self.results["functions"].as_array().unwrap_or_else(|| panic!("no results:\n{}", self.stderr));
        let mut rows = functions.iter().filter(|row| row["name"] == name);
        let row = rows.next().unwrap_or_else(|| panic!("{name} is not in the results: {functions:?}"));
        assert!(rows.next().is_none(), "{name} is in the results twice");
        &row["outcome"]
    }

    pub(crate) fn assert_passed(&self, names: &[&str]) -> &Self {
        for name in names {
            assert_eq!(self.outcome(name), "passed", "{name}");
        }
        self
    }

    pub(crate) fn assert_skipped(&self, name: &str, reason: &str) -> &Self {
        let said = self.outcome(name)["skipped"]["reason"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} was not skipped"));
        assert!(said.contains(reason), "{name} was skipped: {said}");
        self
    }

    pub(crate) fn failure(&self, name: &str) -> &Value {
        let failure = &self.outcome(name)["failed"];
        assert!(!failure.is_null(), "{name} has not failed: {}", self.outcome(name));
        failure
    }

    /// The last line of the output.
    pub(crate) fn verdict(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

fn file_in(dir: &TempDir, name: &str) -> std::fs::File {
    std::fs::File::create(dir.path().join(name)).expect("a file")
}

fn find_results(dir: &Path) -> Option<PathBuf> {
    let path = dir.join("results.json");
    if path.is_file() {
        return Some(path);
    }
    let entries = std::fs::read_dir(dir).ok()?;
    entries.flatten().filter(|entry| entry.path().is_dir()).find_map(|entry| find_results(&entry.path()))
}

/// Waits for the end of a process, and ends it itself when that takes too long.
pub(crate) fn wait_for_end(child: &Child, limit: Duration, what: &str) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a PID");
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).expect("poll") == 0 {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        panic!("{what} did not end");
    }
}

/// Waits until a line is in a file of the scenario's directory, unless the program ends before.
pub(crate) fn wait_for_line(child: &Child, scenario: &Scenario, file: &str, text: &str) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a PID");
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
    let began = Instant::now();
    let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    loop {
        let said = std::fs::read_to_string(scenario.dir.path().join(file)).unwrap_or_default();
        if said.lines().any(|line| line.contains(text)) {
            return;
        }
        assert!(began.elapsed() < LIMIT, "waited for {text:?} in {file}: {said}");
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&moment)).expect("poll");
        assert_eq!(ended, 0, "the program has ended without {text:?} in {file}: {said}");
    }
}

/// No process is left whose environment names this directory; the kernel may need a moment.
fn assert_nothing_runs(dir: &Path, pid: u32) {
    let began = Instant::now();
    let mark = format!("SCENARIO_DIR={}", dir.display());
    loop {
        let left = marked(&mark, pid);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "left running: {left:?}");
        std::thread::yield_now();
    }
}

fn marked(mark: &str, but: u32) -> HashSet<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        *pid != but && environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    pids.filter(is_marked).collect()
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a PID");
    rustix::process::kill_process(pid, signal).expect("it runs");
}
