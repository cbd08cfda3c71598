//! `exec`, `ssh` and `console` with a real guest: input, signals, statuses, and the terminal. One testnet,
//! since a boot is what takes time.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::process::{self, signal};
use steading_testing::terminal::{Terminal, Termios};
use tempfile::TempDir;

/// More than a guest takes to boot under emulation while others do, too.
const LIMIT: Duration = Duration::from_secs(300);

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// A testnet of one VM, which is up.
struct Place {
    dir: TempDir,
    group: String,
    up: Option<Child>,
}

impl Place {
    fn up() -> Self {
        assert!(
            std::env::var_os("STEADING_GUEST").is_some(),
            "STEADING_GUEST names the reference guest: `cargo xtask test` sets it"
        );
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one.toml"), "[[vm]]\nname = \"n1\"\nguest = \"reference\"\n")
            .unwrap();
        let mut place = Self { dir, group: format!("exec-{}", std::process::id()), up: None };
        let log = std::fs::File::create(place.dir.path().join("up")).unwrap();
        let mut command = place.command(&["up", "one.toml"]);
        let up = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        process::wait_for_text(&up, &place.dir.path().join("up"), "control API", LIMIT);
        place.up = Some(up);
        place
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(steading());
        command.args(["--group", &self.group]).args(words).current_dir(&self.dir);
        command.env("STEADING_NO_BROKER", "1").env_remove("TEST_UNDECLARED_OUTPUTS_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        ended(self.command(words).spawn().unwrap())
    }

    /// What a shell prints that has `steading exec` as `e`.
    fn shell(&self, script: &str) -> String {
        let exec =
            format!("e() {{ '{}' --group {} exec \"$@\"; }}; {script}", steading().display(), self.group);
        let mut command = Command::new("sh");
        command.args(["-c", &exec]).current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::piped());
        text(&ended(command.spawn().unwrap()).stdout)
    }

    /// Starts a command, and waits until it runs in the guest.
    fn start(&self, options: &[&str], line: &str, mark: &str) -> Child {
        let child = self.command(&[&["exec"], options, &["n1", line]].concat()).spawn().unwrap();
        self.wait_for(&format!("pgrep -f '{mark}'"));
        child
    }

    /// Waits until this succeeds in the guest.
    fn wait_for(&self, line: &str) {
        let waited = self.run(&["wait", "n1", "--command", line, "--limit", "60s"]);
        assert!(waited.status.success(), "{line}: {}", text(&waited.stderr));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(up) = &mut self.up else { return };
        signal(up, Signal::INT);
        let _ = up.wait();
    }
}

fn ended(child: Child) -> Output {
    process::wait_for_end(&child, LIMIT, "a command");
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_in_a_guest_reads_ends_and_is_told_as_one_here() {
    let place = Place::up();
    let waited = place.run(&["wait", "n1", "--limit", "5min"]);
    assert!(waited.status.success(), "{}", text(&waited.stderr));
    statuses_were_those_of_commands(&place);
    a_loop_over_lines_ran_once(&place);
    a_process_that_held_the_output_held_up_the_end(&place);
    an_interrupted_or_killed_client_left_its_command(&place);
    a_job_in_the_background_was_stopped(&place);
    the_terminal_stayed_raw(&place);
    a_guest_that_panicked_was_waited_for(&place);
}

fn statuses_were_those_of_commands(place: &Place) {
    let code = |words: &[&str]| place.run(words).status.code();
    assert_eq!(code(&["exec", "n1", "exit 2"]), Some(2));
    assert_eq!(code(&["exec", "n1", "kill -9 $$"]), Some(128 + 9));
    assert_eq!(code(&["exec", "n2", "true"]), Some(255));
    assert_eq!(code(&["wait", "n1", "--command", "false", "--limit", "2s"]), Some(1));
    assert_eq!(code(&["wait", "n1", "--limit", "soon"]), Some(2));
    let said = place.run(&["exec", "n1", "printf 'a\\0b'; printf err >&2; exit 3"]);
    assert_eq!((said.stdout.as_slice(), said.stderr.as_slice()), (b"a\0b".as_slice(), b"err".as_slice()));
    let mut closed = place.command(&["exec", "n1", "yes"]).spawn().unwrap();
    drop(closed.stdout.take());
    let closed = ended(closed);
    assert_eq!((closed.status.code(), text(&closed.stderr).as_str()), (Some(141), ""));
    place.wait_for("! pgrep -x yes");
}

/// The last: nothing runs in the guest after it.
fn a_guest_that_panicked_was_waited_for(place: &Place) {
    let panicked = place.run(&["exec", "n1", "echo c >/proc/sysrq-trigger"]);
    let said = text(&panicked.stderr);
    assert_eq!(panicked.status.code(), Some(255), "{said}");
    assert!(said.contains("VM n1: its kernel panicked before the command ended"), "{said}");
    assert!(said.contains("Kernel panic - not syncing: sysrq triggered crash"), "{said}");
    let again = place.run(&["exec", "n1", "true"]);
    assert_eq!(again.status.code(), Some(255));
    assert!(
        text(&again.stderr).contains("its kernel has panicked\nhint: boot it again with `kill n1`"),
        "{}",
        text(&again.stderr)
    );
    let shown = place.run(&["ps"]);
    assert!(text(&shown.stdout).contains("kernel panic"), "{}", text(&shown.stdout));
}

fn a_loop_over_lines_ran_once(place: &Place) {
    std::fs::write(place.dir.path().join("list"), "one\ntwo\nthree\n").unwrap();
    assert_eq!(place.shell("while read v; do e n1 true; echo $v; done <list"), "one\ntwo\nthree\n");
    // What it reads is gone, and the rest is there.
    let script = "while read v; do e n1 'read w; echo $w'; echo $v; done <list";
    assert_eq!(place.shell(script), "two\none\n\nthree\n");
    // A pipe cannot be given back.
    assert_eq!(place.shell("printf '1\\n2\\n' | while read v; do e -n n1 cat; echo $v; done"), "1\n2\n");
    let mut cat = place.command(&["exec", "n1", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
    assert_eq!(ended(cat).stdout, b"through a pipe");
}

fn a_process_that_held_the_output_held_up_the_end(place: &Place) {
    let child = place.command(&["exec", "n1", "sleep 4241 & echo started"]).spawn().unwrap();
    assert!(process::ends_within(&child, Duration::from_secs(60)), "it waits for what was left");
    let said = ended(child);
    assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(0), b"started\n".as_slice()));
    assert!(text(&said.stderr).contains("still holds its output"), "{}", text(&said.stderr));
    place.wait_for("pkill -f 'sleep 424[1]'");
}

fn an_interrupted_or_killed_client_left_its_command(place: &Place) {
    let traps = "trap 'echo interrupted; exit 7' INT; while :; do sleep 0.1; done #mark1";
    let child = place.start(&[], traps, "mark[1]");
    signal(&child, Signal::INT);
    let ran = ended(child);
    assert_eq!(
        (ran.status.code(), text(&ran.stdout).as_str()),
        (Some(7), "interrupted\n"),
        "{}",
        text(&ran.stderr)
    );

    let mut child = place.start(&[], "sleep 4242", "sleep 424[2]");
    child.kill().unwrap();
    child.wait().unwrap();
    place.wait_for("! pgrep -f 'sleep 424[2]'");

    let child = place.start(&["--detach"], "sleep 4243", "sleep 424[3]");
    signal(&child, Signal::TERM);
    let ran = ended(child);
    assert_eq!(ran.status.code(), Some(128 + 15));
    assert!(text(&ran.stderr).contains("VM n1: the command continues"), "{}", text(&ran.stderr));
    place.wait_for("pkill -f 'sleep 424[3]'");
}

fn a_job_in_the_background_was_stopped(place: &Place) {
    let mut terminal = Terminal::new(80, 24);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "bash", "--norc", "--noprofile", "-i"]).env("PS1", "$ ").current_dir(&place.dir);
    terminal.attach(&mut command);
    let mut shell = command.spawn().unwrap();
    drop(command);
    let exec =
        format!("'{}' --group {} exec n1 'cat; echo from the guest' &\r", steading().display(), place.group);
    terminal.type_in(&exec);
    terminal.type_in("wait %1; echo sta''tus $?\r");
    terminal.wait_until("the end of the job", LIMIT, |screen| screen.contents().contains("status 0"));
    assert!(terminal.history().contains("from the guest"), "{}", terminal.history());
    terminal.type_in("exit\r");
    terminal.read_to_end(LIMIT);
    shell.wait().unwrap();
}

fn the_terminal_stayed_raw(place: &Place) {
    for verb in ["console", "ssh"] {
        for kind in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL] {
            let mut terminal = Terminal::new(80, 24);
            let before = modes(&terminal);
            let mut command = place.command(&[verb, "n1"]);
            terminal.attach(&mut command);
            let child = command.spawn().unwrap();
            drop(command);
            terminal.wait_until("what the guest says", LIMIT, |screen| !screen.contents().trim().is_empty());
            assert_ne!(modes(&terminal), before, "{verb}: it is not raw");
            signal(&child, kind);
            terminal.read_to_end(LIMIT);
            let code = (kind != Signal::KILL).then(|| 128 + kind.as_raw());
            assert_eq!(ended(child).status.code(), code, "{verb}");
            assert_eq!(modes(&terminal), before, "{verb} {kind:?}");
        }
    }
}

/// What termios(3) tells, to be compared.
fn modes(terminal: &Terminal) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = terminal.modes();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}
