use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use steading_testing::process;
use steading_testing::terminal::Terminal;
use tempfile::TempDir;

/// Far more than any scenario takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

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
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE")
            .env("TERM", "xterm-256color")
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

    /// Starts it on a terminal of this size.
    pub(crate) fn on_a_terminal(&mut self, columns: u16, rows: u16) -> (Child, Terminal) {
        let mut terminal = Terminal::new(columns, rows);
        terminal.attach(&mut self.command);
        let child = self.command.spawn().expect("the program starts");
        // The command has the terminal, too, and its end is to be seen.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        (child, terminal)
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Ran {
        let child = self.command.spawn().expect("the program starts");
        self.wait(child)
    }

    /// Waits for its end, and reads what it left.
    pub(crate) fn wait(self, mut child: Child) -> Ran {
        let pid = child.id();
        process::wait_for_end(&child, LIMIT, &self.name);
        let status = child.wait().expect("its end");
        let text = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let trace = text("trace").lines().map(str::to_owned).collect();
        let results = find_results(self.dir.path()).map_or(Value::Null, |path| {
            serde_json::from_slice(&std::fs::read(path).expect("results")).expect("results are JSON")
        });
        process::assert_nothing_runs(&format!("SCENARIO_DIR={}", self.dir.path().display()), pid);
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

/// Waits until a line is in a file of the scenario's directory, unless the program ends before.
pub(crate) fn wait_for_line(child: &Child, scenario: &Scenario, file: &str, text: &str) {
    process::wait_for_text(child, &scenario.dir.path().join(file), text, LIMIT);
}
