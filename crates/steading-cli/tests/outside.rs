//! Every verb of `steading`, with everything that can be wrong with what it inherits: its streams, its limits, its
//! signals, its environment. No verb panics, none hangs, and each failure is reported.
//!
//! The testnet has one VM that is never started, so nothing here needs an emulator's time.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::process::{self, signal};
use steading_testing::terminal::Terminal;
use tempfile::TempDir;

/// What a verb may take that is asked for nothing that takes time.
const LIMIT: Duration = Duration::from_secs(10);

/// More than a group takes to come up while other tests do the same.
const UP: Duration = Duration::from_secs(60);

/// Every verb, with the arguments that it gets here. `ever` marks those that end only by a signal.
const VERBS: &[(&str, &[&str])] = &[
    ("doctor", &["doctor"]),
    ("up", &["ever", "up", "own.toml"]),
    ("run", &["run", "own.toml", "--", "echo", "word"]),
    ("broker", &["broker"]),
    ("nextest", &["nextest", "--binaries", "binaries.json"]),
    ("gc", &["gc"]),
    ("ps", &["ps"]),
    ("exec", &["exec", "n1", "true"]),
    ("ssh", &["ssh", "n1"]),
    ("console", &["ever", "console", "n1"]),
    ("wait", &["wait", "n1"]),
    ("logs", &["logs"]),
    ("screenshot", &["screenshot", "n1", "picture.png"]),
    ("start", &["start", "n2"]),
    ("kill", &["kill", "n1"]),
    ("reboot", &["reboot", "n1"]),
    ("shutdown", &["shutdown", "n1"]),
    ("pause", &["pause", "n1"]),
    ("resume", &["resume", "n1"]),
    ("fault cut", &["fault", "cut", "n1"]),
    ("fault partition", &["fault", "partition", "n1", "n1"]),
    ("fault loss", &["fault", "loss", "n1", "5"]),
    ("fault delay", &["fault", "delay", "n1", "5ms"]),
    ("fault duplicate", &["fault", "duplicate", "n1", "5"]),
    ("fault reorder", &["fault", "reorder", "n1", "5", "5ms"]),
    ("fault rate", &["fault", "rate", "n1", "1mbit"]),
    ("fault ls", &["fault", "ls"]),
    ("fault undo", &["fault", "undo", "--all"]),
    ("files ls", &["files", "ls"]),
    ("files add", &["files", "add", "disk"]),
    ("files rm", &["files", "rm", "nothing"]),
    ("files url", &["files", "url", "disk"]),
    ("files refuse", &["files", "refuse"]),
    ("files fail", &["files", "fail", "500"]),
    ("files cut", &["files", "cut", "5"]),
    ("files slow", &["files", "slow", "5"]),
    ("files corrupt", &["files", "corrupt"]),
    ("files undo", &["files", "undo", "--all"]),
    ("dns ls", &["dns", "ls"]),
    ("dns add", &["dns", "add", "api", "10.0.0.1"]),
    ("dns rm", &["dns", "rm", "api"]),
    ("dns claim", &["dns", "claim", "2001:db8::1"]),
    ("cert", &["cert", "--authority"]),
    ("virsh", &["virsh", "--uri"]),
    ("freeze", &["freeze", "--list"]),
    ("thaw", &["thaw"]),
    ("fork", &["fork", "--from", "nothing"]),
    ("down", &["--group", "nothing", "down"]),
    ("plan", &["plan", "own.toml"]),
    ("schema", &["schema"]),
    ("report", &["report", "."]),
    ("select", &["select", "--local", "labels"]),
    ("completions", &["completions", "bash"]),
    ("man", &["man", "pages"]),
    ("cache ls", &["cache", "ls"]),
    ("cache gc", &["cache", "gc"]),
    ("image ls", &["image", "ls"]),
    ("image import", &["image", "import", "disk"]),
    ("image gc", &["image", "gc"]),
];

/// Every state that a process may be started in: its name, and what a shell does before it becomes the verb,
/// which stands for `"$@"`.
const STATES: &[(&str, &str)] = &[
    ("as usual", r#"exec "$@""#),
    ("no input", r#"exec "$@" <&-"#),
    ("no output", r#"exec "$@" >&-"#),
    ("no error output", r#"exec "$@" 2>&-"#),
    ("no stream at all", r#"exec "$@" <&- >&- 2>&-"#),
    ("a full output", r#"exec "$@" >/dev/full"#),
    ("a full error output", r#"exec "$@" 2>/dev/full"#),
    // The reader ends when the verb has been started, so what is written fails sooner or later.
    (
        "a reader that has gone",
        r#"mkfifo gone-$$ && { exec 8<>gone-$$; exec 9>gone-$$; exec 8<&-; rm gone-$$; exec "$@" >&9 9>&-; }"#,
    ),
    ("no terminal", r#"exec setsid --wait "$@""#),
    ("20 columns", r#"COLUMNS=20 exec "$@""#),
    ("the C locale", r#"LC_ALL=C LANG= exec "$@""#),
    ("a locale and a time zone that are none", r#"LC_ALL=xx_YY.UTF-8 TZ=Nowhere/Else exec "$@""#),
    ("no home", r#"unset HOME XDG_CACHE_HOME; exec "$@""#),
    ("a directory that cannot be written to", r#"cd closed && exec "$@""#),
    ("a directory that is gone", r#"mkdir gone.$$ && cd gone.$$ && rmdir ../gone.$$ && exec "$@""#),
    ("64 files", r#"ulimit -n 64 && exec "$@""#),
    ("256 files of many", r#"ulimit -Sn 256 && exec "$@""#),
    ("900 files", r#"ulimit -n 900 && exec "$@""#),
    ("1024 files", r#"ulimit -n 1024 && exec "$@""#),
    ("SIGCHLD ignored", r#"exec env --ignore-signal=CHLD "$@""#),
    ("all signals blocked", r#"exec env --block-signal "$@""#),
    ("a umask that leaves nothing", r#"umask 0777; exec "$@""#),
    (
        "the least of the CPU, and the first to be killed",
        r#"echo 1000 >/proc/self/oom_score_adj; exec nice -n 19 "$@""#,
    ),
];

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// A testnet that is up, and a directory with all that verbs are asked about.
struct Place {
    dir: TempDir,
    group: String,
    up: Option<Child>,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("disk", &"\0".repeat(1 << 20));
        let vm = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\nautostart = false\ndisplay = true\ndisk = { path = \"disk\" }\n";
        write("testnet.toml", vm);
        write("own.toml", "");
        write("binaries.json", "{\"rust-binaries\": {}}");
        write("labels", "//a:b\n");
        std::fs::create_dir(dir.path().join("pages")).unwrap();
        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        for file in ["disk", "own.toml", "binaries.json", "labels"] {
            std::fs::copy(dir.path().join(file), closed.join(file)).unwrap();
        }
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
        let mut place = Self { dir, group: format!("{name}-{}", std::process::id()), up: None };
        let log = std::fs::File::create(place.dir.path().join("up")).unwrap();
        let mut command = Command::new(steading());
        command.args(["up", "testnet.toml", "--group", &place.group]);
        place.prepare(&mut command);
        let up = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        process::wait_for_text(&up, &place.dir.path().join("up"), "control API", UP);
        place.up = Some(up);
        place
    }

    fn prepare(&self, command: &mut Command) {
        command
            .current_dir(&self.dir)
            .env("STEADING_ACCEL", "tcg")
            .env("STEADING_NO_BROKER", "1")
            .env("STEADING_CACHE_DIR", self.dir.path().join("cache"))
            .env("STEADING_GUEST", "/no/such/guest")
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .env_remove("RUST_BACKTRACE");
    }

    /// A verb that a shell becomes. What is said on its error output goes to a file.
    fn command(&self, words: &[&str], script: &str) -> Command {
        let mut command = Command::new("sh");
        let (is_endless, words) = match words {
            ["ever", words @ ..] => (true, words),
            words => (false, words),
        };
        command.args(["-c", script, "sh"]);
        if is_endless {
            command.args(["timeout", "--signal=INT", "1"]);
        }
        command.arg(steading());
        let is_own = ["up", "run", "plan"].contains(&words[0]) || words[0] == "--group";
        if !is_own {
            command.args(["--group", &self.group]);
        }
        self.prepare(&mut command);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(up) = &mut self.up {
            signal(up, Signal::INT);
            let _ = up.wait();
        }
        let _ = std::fs::set_permissions(self.dir.path().join("closed"), PermissionsExt::from_mode(0o755));
    }
}

/// What is wrong with how a verb ended.
fn judge(output: &Output, is_told: bool) -> Result<(), String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().ok_or_else(|| format!("it was ended by {}", output.status))?;
    if said.contains("panicked at") || code == 101 {
        return Err(format!("it panicked: {said}"));
    }
    // A reader that has gone, and timeout(1), which has ended it.
    let is_success = [0, 141, 124].contains(&code);
    if !is_success && is_told && said.trim().is_empty() {
        return Err(format!("it ended with status {code}, and said nothing"));
    }
    Ok(())
}

/// Runs all of this at two places at once.
fn try_all(place: &Place, states: &[(&str, &str)]) {
    let wrong = Mutex::new(Vec::new());
    let pairs: Vec<_> = states.iter().flat_map(|state| VERBS.iter().map(move |verb| (state, verb))).collect();
    let next = Mutex::new(pairs.iter());
    let work = || {
        loop {
            let Some(((state, script), (verb, words))) = next.lock().unwrap().next() else { return };
            let child = place.command(words, script).spawn().unwrap();
            // What it says is little.
            if !process::ends_within(&child, LIMIT) {
                signal(&child, Signal::KILL);
                wrong.lock().unwrap().push(format!("{verb}, {state}: it does not end"));
                continue;
            }
            let output = child.wait_with_output().unwrap();
            let is_told = !["no error output", "no stream at all", "a full error output"].contains(state);
            // What it finds is its output.
            let is_told = is_told && *verb != "doctor";
            if let Err(why) = judge(&output, is_told) {
                wrong.lock().unwrap().push(format!("{verb}, {state}: {why}"));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}

#[test]
fn no_verb_panics_hangs_or_fails_silently_whatever_it_inherits() {
    let place = Place::new("outside");
    try_all(&place, STATES);
}

#[test]
fn no_verb_panics_or_hangs_on_a_terminal_of_20_columns() {
    let place = Place::new("narrow");
    for (verb, words) in VERBS {
        let mut terminal = Terminal::new(20, 10);
        let mut command = place.command(words, r#"exec "$@""#);
        terminal.attach(&mut command);
        let mut child = command.env("TERM", "xterm-256color").spawn().unwrap();
        drop(command);
        terminal.read_to_end(LIMIT);
        let code = child.wait().unwrap().code();
        let said = terminal.history();
        assert!(
            code.is_some_and(|code| code != 101) && !said.contains("panicked"),
            "{verb}: {code:?}: {said}"
        );
    }
}

/// The verbs that help lists, and those below them.
fn verbs_of(words: &[&str]) -> Vec<String> {
    let help = Command::new(steading()).args(words).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut verbs = Vec::new();
    for name in names {
        let below = verbs_of(&[words, &[name]].concat());
        verbs.extend(if below.is_empty() { vec![[words, &[name]].concat().join(" ")] } else { below });
    }
    verbs
}

#[test]
fn the_table_has_every_verb_that_there_is() {
    let table: Vec<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(verbs_of(&[]), table);
}

#[test]
fn the_reference_tells_the_statuses_of_every_verb() {
    let page = include_str!("../../../docs/reference/exit-status.md");
    let rows =
        page.lines().filter_map(|line| line.strip_prefix("| `").or(line.strip_prefix("| a test program, `")));
    let cells: Vec<&str> = rows.filter_map(|row| row.split(" | ").next()).collect();
    let told: Vec<&str> =
        cells.iter().flat_map(|cell| cell.split("`, `")).map(|verb| verb.trim_end_matches('`')).collect();
    for verb in verbs_of(&[]) {
        assert!(told.contains(&verb.as_str()), "{verb} is not in {told:?}");
    }
}

#[test]
fn an_error_of_steading_looked_like_the_status_of_what_it_ran() {
    let place = Place::new("statuses");
    let code = |words: &[&str]| {
        let child = place.command(words, r#"exec "$@""#).spawn().unwrap();
        process::wait_for_end(&child, UP, &words.join(" "));
        child.wait_with_output().unwrap().status.code()
    };
    std::fs::write(place.dir.path().join("script"), "#!/bin/sh\n").unwrap();
    for (words, expected) in [
        (&["run", "own.toml", "--", "sh", "-c", "exit 2"][..], 2),
        (&["run", "own.toml", "--", "no-such-program"], 127),
        (&["run", "own.toml", "--", "./script"], 126),
        (&["run", "own.toml"], 125),
        (&["run", "nothere.toml", "--", "true"], 125),
        (&["run", "own.toml", "--engine", "none", "--", "true"], 125),
        (&["exec", "n1", "true"], 255),
        (&["exec", "n7", "true"], 255),
        (&["exec", "--no-such-option", "n1", "true"], 255),
        (&["ssh", "n7"], 255),
        (&["ssh"], 255),
        (&["wait", "n1"], 2),
        (&["wait", "n7"], 2),
        (&["wiat", "n1"], 2),
        (&["wait", "n1", "--limit", "soon"], 2),
        (&["fork", "--from", "nothing"], 2),
        (&["fork", "--from", "nothing", "--", "true"], 125),
        (&["plan", "nothere.toml"], 2),
        (&["console", "n7"], 2),
        (&["ps"], 0),
    ] {
        assert_eq!(code(words), Some(expected), "{words:?}");
    }
}

#[test]
fn a_full_or_closed_output_made_verbs_panic_or_was_not_named() {
    let place = Place::new("outputs");
    let ran = |words: &[&str], script: &str| {
        let child = place.command(words, script).spawn().unwrap();
        process::wait_for_end(&child, UP, &words.join(" "));
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let prints: &[&[&str]] = &[
        &["plan", "own.toml"],
        &["plan", "own.toml", "--json"],
        // Until the first line is written.
        &["logs", "-f"],
        &["ps"],
        &["ps", "--json"],
        &["schema"],
        &["completions", "zsh"],
        &["dns", "ls"],
        &["cert", "--authority"],
        &["files", "add", "disk"],
        &["--help"],
        &["--version"],
    ];
    for words in prints {
        let (code, said) = ran(words, r#"exec "$@" >/dev/full"#);
        assert_eq!(code, Some(3), "{words:?}: {said}");
        assert!(
            said.contains("error: cannot write to standard output: No space left on device"),
            "{words:?}: {said}"
        );
        // The pipe has no reader from the beginning.
        let (code, said) = ran(words, r#"exec 8<>pipe; exec 9>pipe; exec 8<&-; exec "$@" >&9"#.replace("exec 8<>pipe", "mkfifo -m 600 pipe 2>/dev/null; exec 8<>pipe").as_str());
        assert_eq!((code, said.contains("roken pipe")), (Some(141), false), "{words:?}: {said}");
    }
}

/// Runs a program with a status of its own in a group of its own.
fn ran(dir: &Path, script: &str) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(steading());
    command.args(["run", "own.toml", "--group", &format!("inherits-{}", std::process::id()), "--"]);
    command.args(["sh", "-c", "sleep 0.1 & wait; exit 7"]).current_dir(dir);
    command.env("STEADING_NO_BROKER", "1").env("STEADING_ACCEL", "tcg");
    command.env_remove("TEST_UNDECLARED_OUTPUTS_DIR").stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process::wait_for_end(&child, UP, script);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_group_whose_driver_inherits_ignored_signals_low_limits_or_closed_streams_hangs_or_fails() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.toml"), "").unwrap();
    let same = STATES.iter().filter(|(state, _)| {
        // Without files there is no group, and without a directory no testnet and no logs.
        !["64 files", "900 files"].contains(state) && !state.starts_with("a directory")
    });
    for (state, script) in same {
        let (code, said) = ran(dir.path(), script);
        assert_eq!(code, Some(7), "{state}: {said}");
    }
    let (code, said) = ran(dir.path(), r#"mkdir gone && cd gone && rmdir ../gone && exec "$@""#);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("hint: the working directory of this program was removed"), "{said}");
    let mut doctor = Command::new("sh");
    doctor.args(["-c", r#"ulimit -n 900 && exec "$@""#, "sh"]).arg(steading()).arg("doctor");
    let doctor = doctor.current_dir(&dir).env("STEADING_ACCEL", "tcg").output().unwrap();
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{found}");
    assert!(found.contains("BAD   limits       this process may have 900 files open"), "{found}");
    for limit in [64, 256, 900, 1000] {
        let (code, said) = ran(dir.path(), &format!(r#"ulimit -n {limit} && exec "$@""#));
        assert_eq!(code, Some(125), "{limit} files: {said}");
        let told = format!("this process may have {limit} files open, and at least 1024 are needed");
        assert!(said.contains(&told) && said.contains("hint: raise the limit"), "{limit} files: {said}");
    }
}
