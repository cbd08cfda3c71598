//! `steading run`, which runs a program as a shell does: its streams, its signals, its terminal. The testnets
//! have no VM.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::process::{self, signal};
use steading_testing::terminal::{Terminal, Termios};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A directory with an empty testnet.
struct Place {
    dir: TempDir,
    name: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Others of this user may run groups, too.
        let name = format!("{name}-{}", std::process::id());
        std::fs::write(dir.path().join(format!("{name}.toml")), "").unwrap();
        Self { dir, name }
    }

    fn steading(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("CARGO_BIN_EXE_steading").map(PathBuf::from);
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()));
        command.args(args).current_dir(&self.dir).env_remove("TEST_UNDECLARED_OUTPUTS_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `run`, with these options, of a script for a shell.
    fn run(&self, options: &[&str], script: &str) -> Command {
        let file = format!("{}.toml", self.name);
        self.steading(&[&["run", &file], options, &["--", "sh", "-c", script]].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until the program has said so in a file.
    fn wait_for(&self, child: &Child, name: &str, text: &str) {
        process::wait_for_text(child, &self.path(name), text, LIMIT);
    }

    /// All that the group's log has.
    fn log(&self) -> String {
        fn find(dir: &std::path::Path) -> Option<PathBuf> {
            let file = dir.join("test.log");
            if file.is_file() {
                return Some(file);
            }
            std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| find(&entry.path()))
        }
        std::fs::read_to_string(find(&self.path("out")).unwrap()).unwrap()
    }
}

fn ended(child: Child) -> Output {
    process::wait_for_end(&child, LIMIT, "run");
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_a_program_writes_to_its_error_is_not_mixed_into_its_output_and_bytes_stay_as_they_are() {
    let place = Place::new("apart");
    let script = r"printf 'one\0\377\r\n\033[1mtwo'; printf 'an \376 error' >&2";
    let ran = place.run(&[], script).output().unwrap();
    assert_eq!(ran.stdout, b"one\0\xff\r\n\x1b[1mtwo");
    assert!(ran.stderr.windows(10).any(|part| part == b"an \xfe error"), "{}", said(&ran));
    // It is in the log all the same, as text.
    let log = place.log();
    assert!(log.contains("two") && log.contains("error") && !log.contains('\x1b'), "{log}");
}

#[test]
fn a_large_output_arrives_whole() {
    let place = Place::new("large");
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(place.path("data"), &bytes).unwrap();
    let output = File::create(place.path("copy")).unwrap();
    let status =
        place.run(&[], "cat data; cat data >&2").stdout(output).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    assert!(std::fs::read(place.path("copy")).unwrap() == bytes, "the copy is another");
}

#[test]
fn input_is_passed_on_and_what_the_program_does_not_read_is_left_for_others() {
    let place = Place::new("input");
    let mut child = place.run(&[], "cat").stdin(Stdio::piped()).spawn().unwrap();
    let input = b"a line\nand \0 bytes".repeat(20_000);
    let mut pipe = child.stdin.take().unwrap();
    let copy = input.clone();
    let writer = std::thread::spawn(move || pipe.write_all(&copy).unwrap());
    let ran = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(ran.stdout == input, "{} bytes came back of {}", ran.stdout.len(), input.len());

    // A loop over lines runs as often as there are lines.
    std::fs::write(place.path("list"), "one\ntwo\nthree\n").unwrap();
    let run = place.run(&[], "true");
    let words: Vec<String> = [run.get_program()]
        .into_iter()
        .chain(run.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let script = format!("while read word; do {} 2>/dev/null; echo $word; done <list", words.join(" "));
    let looped = Command::new("sh").args(["-c", &script]).current_dir(&place.dir).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&looped.stdout), "one\ntwo\nthree\n");
}

#[test]
fn a_text_without_a_line_end_arrives_before_the_program_ends() {
    let place = Place::new("progress");
    let script = "printf '50%%'; while test ! -e seen; do read nothing </dev/null; done; exit 0";
    let mut child = place.run(&[], script).spawn().unwrap();
    let mut part = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut part).unwrap();
    assert_eq!(&part, b"50%");
    std::fs::write(place.path("seen"), "").unwrap();
    assert!(ended(child).status.success());
}

/// Says that it runs, and on a signal makes its report.
const REPORTS: &str = "trap 'echo report >report; exit 9' INT TERM HUP; echo on >on; \
                       while :; do sleep 0.05; done";

#[test]
fn an_interrupted_program_gets_the_signal_and_time_to_report() {
    for kind in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new("reports");
        let child = place.run(&[], REPORTS).spawn().unwrap();
        place.wait_for(&child, "on", "on");
        signal(&child, kind);
        let ran = ended(child);
        assert_eq!((ran.status.code(), place.text("report").trim()), (Some(9), "report"), "{}", said(&ran));
        assert!(place.log().contains("the group is torn down"), "{kind:?}");
    }
}

#[test]
fn timeout_which_signals_twice_does_not_kill_the_program() {
    let place = Place::new("timeout");
    let run = place.run(&[], REPORTS);
    let mut command = Command::new("timeout");
    command.args(["-s", "INT", "5"]).arg(run.get_program()).args(run.get_args()).current_dir(&place.dir);
    let ran = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!((ran.status.code(), place.text("report").trim()), (Some(124), "report"), "{}", said(&ran));
}

#[test]
fn what_a_shell_has_started_gets_the_signal_and_time_to_report_when_the_shell_has_died_of_it() {
    let place = Place::new("orphan");
    // The outer shell has no trap.
    let script = format!("sh -c '{}'; true", REPORTS.replace('\'', r"'\''"));
    let child = place.run(&[], &script).spawn().unwrap();
    place.wait_for(&child, "on", "on");
    signal(&child, Signal::TERM);
    let ran = ended(child);
    assert_eq!(
        (ran.status.code(), place.text("report").trim()),
        (Some(128 + 15), "report"),
        "{}",
        said(&ran)
    );
}

/// Goes on whatever signal comes.
const IGNORES: &str = "trap '' INT TERM HUP; echo on >on; while :; do sleep 0.05; done";

#[test]
fn a_second_signal_kills_a_program_that_goes_on() {
    let place = Place::new("second");
    let child = place.run(&[], IGNORES).spawn().unwrap();
    place.wait_for(&child, "on", "on");
    signal(&child, Signal::INT);
    assert!(!process::ends_within(&child, Duration::from_millis(1500)), "one signal was enough");
    signal(&child, Signal::INT);
    assert_eq!(ended(child).status.code(), Some(128 + 9));
}

#[test]
fn a_program_that_goes_on_is_killed_when_its_time_is_over() {
    let place = Place::new("grace");
    let child = place.run(&["--grace", "300ms"], IGNORES).spawn().unwrap();
    place.wait_for(&child, "on", "on");
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).status.code(), Some(128 + 9));
}

#[test]
fn a_program_gets_a_signal_and_time_when_its_group_is_torn_down_from_another_terminal() {
    let place = Place::new("down");
    let child = place.run(&[], REPORTS).spawn().unwrap();
    place.wait_for(&child, "on", "on");
    let down = place.steading(&["down", "--group", &place.name]).output().unwrap();
    assert!(down.status.success(), "{}", said(&down));
    let ran = ended(child);
    assert_eq!((ran.status.code(), place.text("report").trim()), (Some(9), "report"), "{}", said(&ran));
}

#[test]
fn a_program_whose_reader_has_gone_ends() {
    let place = Place::new("reader");
    for (script, code) in [("yes", 128 + 13), ("yes; exit 7", 7)] {
        let mut child = place.run(&[], script).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        drop(child.stdout.take());
        let ran = ended(child);
        assert_eq!(ran.status.code(), Some(code), "{script}: {}", said(&ran));
        assert!(!said(&ran).contains("roken pipe: "), "{}", said(&ran));
        assert!(!said(&ran).contains("panicked"), "{}", said(&ran));
    }
}

#[test]
fn an_output_that_is_full_is_named_and_a_failure_keeps_its_status() {
    let place = Place::new("full");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for (script, code) in [("echo lost; exit 7", 7), ("echo lost", 125), ("exit 0", 0)] {
        let ran = place.run(&[], script).stdout(full()).output().unwrap();
        assert_eq!(ran.status.code(), Some(code), "{script}: {}", said(&ran));
        let is_named = said(&ran).contains("cannot write to standard output: No space left on device");
        assert_eq!(is_named, script.contains("lost"), "{script}: {}", said(&ran));
    }
    // There is nobody to tell.
    let ran = place.run(&[], "echo fine").stderr(full()).output().unwrap();
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(0), b"fine\n".as_slice()));
}

#[test]
fn a_process_that_cannot_be_found_and_holds_the_output_does_not_hold_up_the_end() {
    let place = Place::new("holds");
    let child = place.run(&[], "setsid env -i sleep 1000 & echo done").spawn().unwrap();
    let ran = ended(child);
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(0), b"done\n".as_slice()), "{}", said(&ran));
}

/// What termios(3) tells, to be compared.
fn modes(terminal: &Terminal) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = terminal.modes();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}

#[test]
fn a_program_gets_a_terminal_where_there_is_one_and_keys_reach_it() {
    let place = Place::new("terminal");
    let mut terminal = Terminal::new(72, 9);
    let before = modes(&terminal);
    // Not `sleep`: dash catches SIGINT, and loses one that comes just before it becomes another program.
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size; printf 'name? '; read name; \
                  echo \"hello $name\"; read more";
    let mut command = place.run(&[], script);
    terminal.attach(&mut command);
    let child = command.spawn().unwrap();
    drop(command);
    terminal.wait_until("the size and a question", LIMIT, |screen| {
        screen.contents().contains("9 72") && screen.contents().contains("name? ")
    });
    terminal.type_in("Ada\r");
    terminal.wait_until("an answer", LIMIT, |screen| screen.contents().contains("hello Ada"));
    assert_ne!(modes(&terminal), before, "it is not raw");
    // Ctrl-C is a key like others here.
    terminal.type_in("\x03");
    terminal.read_to_end(LIMIT);
    assert_eq!(ended(child).status.code(), Some(128 + 2), "{}", terminal.history());
    assert_eq!(modes(&terminal), before);
}

#[test]
fn the_terminal_is_as_it_was_however_the_program_or_its_driver_is_ended() {
    for (script, kind) in [
        ("kill -9 $$", None),
        ("stty raw; echo on; sleep 1000", Some(Signal::TERM)),
        ("stty raw; echo on; sleep 1000", Some(Signal::HUP)),
        ("echo on; sleep 1000", Some(Signal::KILL)),
    ] {
        let place = Place::new("modes");
        let mut terminal = Terminal::new(80, 24);
        let before = modes(&terminal);
        let mut command = place.run(&[], script);
        terminal.attach(&mut command);
        let child = command.spawn().unwrap();
        drop(command);
        if let Some(kind) = kind {
            terminal.wait_until("it is on", LIMIT, |screen| screen.contents().contains("on"));
            signal(&child, kind);
        }
        terminal.read_to_end(LIMIT);
        let code = ended(child).status.code();
        assert_eq!(code.is_some_and(|code| code > 128), kind != Some(Signal::KILL), "{}", terminal.history());
        assert_eq!(modes(&terminal), before, "{script}");
    }
}

#[test]
fn only_a_redirected_output_is_no_terminal_for_the_program() {
    let place = Place::new("redirected");
    let mut terminal = Terminal::new(80, 24);
    let mut command =
        place.run(&[], "test -t 1 || echo no terminal; stty raw </dev/tty && echo raw; echo x >&2");
    terminal.attach(&mut command);
    command.stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    terminal.read_to_end(LIMIT);
    let ran = ended(child);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "no terminal\n", "{}", terminal.history());
}
