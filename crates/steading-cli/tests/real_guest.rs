//! `steading` and one real guest: what a user sees while it comes up, and the verbs, one after the
//! other, as they are used from other terminals. One testnet, since a boot is what takes time.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use steading_testing::process;
use steading_testing::terminal::Terminal;
use tempfile::TempDir;

/// More than a guest takes to boot under emulation while others do, too.
const LIMIT: Duration = Duration::from_secs(300);

/// Reads two lines from the guest's console, as they are typed there.
const READER: &str = "\
exec </dev/ttyS0 >/dev/ttyS0
stty -echo
echo 'who is there?'
read -r name
echo \"$name\" >/root/heard
echo \"good morning, $name\"
read -r word
echo \"$word\" >>/root/heard
echo \"that was $word\"
";

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

struct Place {
    dir: TempDir,
    group: String,
}

impl Place {
    fn new() -> Self {
        assert!(
            std::env::var_os("STEADING_GUEST").is_some(),
            "STEADING_GUEST names the reference guest: `cargo xtask test` sets it"
        );
        let dir = tempfile::tempdir().unwrap();
        let testnet = "[[vm]]\nname = \"n1\"\nguest = \"reference\"\ndisplay = true\n";
        std::fs::write(dir.path().join("one.toml"), testnet).unwrap();
        Self { dir, group: format!("one-{}", std::process::id()) }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(steading());
        command
            .args(["--group", &self.group])
            .args(words)
            .current_dir(&self.dir)
            .env("TERM", "xterm-256color")
            // A group and its forks are needed at once, whatever machine it is.
            .env("STEADING_NO_BROKER", "1")
            .env_remove("NO_COLOR")
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end, with this as its input.
    fn with_input(&self, words: &[&str], input: &str) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        process::wait_for_end(&child, LIMIT, &words.join(" "));
        child.wait_with_output().unwrap()
    }

    /// What a verb printed, which must have succeeded.
    fn succeed(&self, words: &[&str]) -> String {
        let output = self.with_input(words, "");
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a verb said, which must have failed.
    fn fail(&self, words: &[&str]) -> String {
        let output = self.with_input(words, "");
        assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// The state of the VM and its boot.
    fn state(&self) -> (String, u64) {
        let listed: serde_json::Value = serde_json::from_str(&self.succeed(&["ps", "--json"])).unwrap();
        let groups = listed.as_array().unwrap();
        let ours = groups.iter().find(|group| group["group"] == self.group.as_str()).unwrap();
        let vm = &ours["vms"][0];
        (vm["state"].as_str().unwrap().to_owned(), vm["boot"].as_u64().unwrap())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_guest_is_seen_coming_up_and_every_verb_does_to_it_what_it_says() {
    let place = Place::new();
    let mut command = place.command(&["up", "one.toml"]);
    let mut screen = Terminal::new(80, 24);
    screen.attach(&mut command);
    let mut up = command.spawn().unwrap();
    drop(command);
    comes_up(&mut screen);
    // Whatever comes later is read, too: a terminal that nobody looks at is full some day.
    let watched = std::thread::spawn(move || {
        screen.read_to_end(LIMIT);
        screen.history()
    });

    waits_and_commands(&place);
    words_are_typed_and_answered(&place);
    logs(&place);
    screenshot(&place);
    pause_and_resume(&place);
    kill_and_start(&place);

    place.succeed(&["down"]);
    process::wait_for_end(&up, LIMIT, "up");
    assert_eq!(up.wait().unwrap().code(), Some(0));
    let history = watched.join().unwrap();
    assert_eq!(history.matches(" answers ").count(), 2, "a line for each boot is left:\n{history}");
    assert!(!history.contains(" booting "), "{history}");
    assert!(history.contains("VM n1: it is off: power cut"), "{history}");
    assert!(history.lines().all(|line| line.chars().count() <= 80), "{history}");
}

/// One line, which says how far it is, with the address in it.
fn comes_up(screen: &mut Terminal) {
    let mut states: Vec<String> = Vec::new();
    screen.wait_until("the guest to answer", LIMIT, |screen| {
        let rows: Vec<String> = screen.rows(0, 80).filter(|row| row.starts_with("  n1  ")).collect();
        // The first of them is that of the plan.
        let moving: Vec<&String> = rows.iter().filter(|row| row.trim_end().ends_with(" s")).collect();
        assert!(moving.len() <= 1, "more than one line: {moving:#?}");
        if let Some(row) = moving.first() {
            // Between two spaces or more: name, address, state, seconds.
            let state = row.get(56..70).unwrap_or_default().trim().to_owned();
            if row.trim_end().len() == 77 && states.last() != Some(&state) {
                states.push(state);
            }
        }
        states.last().is_some_and(|state| state == "answers")
    });
    let seen: Vec<&str> = states.iter().map(String::as_str).collect();
    assert!(seen.contains(&"booting"), "{seen:?}");
    let order = ["waiting", "image awaited", "starting", "booting", "address is up", "answers"];
    let places: Vec<usize> = seen
        .iter()
        .filter(|state| !state.starts_with("unpacking") && !state.starts_with("hashing"))
        .map(|state| order.iter().position(|known| known == state).unwrap_or_else(|| panic!("{seen:?}")))
        .collect();
    assert!(places.is_sorted(), "{seen:?}");
}

fn waits_and_commands(place: &Place) {
    place.succeed(&["wait", "n1"]);
    place.succeed(&["wait", "n1", "--port", "22", "--console", "is up", "--command", "true"]);
    assert_eq!(place.succeed(&["exec", "n1", "hostname"]), "n1\n");
    let ended = place.with_input(&["exec", "n1", "cat >/root/reader; echo done; exit 7"], READER);
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(7), "done\n"));
    let late = place.fail(&["wait", "n1", "--console", "never said", "--limit", "1s"]);
    assert!(late.contains("never said") && late.contains("not seen within 1 s"), "{late}");

    let mut command = place.command(&["ssh", "n1"]);
    let mut terminal = Terminal::new(80, 24);
    terminal.attach(&mut command);
    let mut shell = command.spawn().unwrap();
    drop(command);
    terminal.type_in("stty size; exit\r");
    terminal.read_to_end(LIMIT);
    assert!(terminal.history().contains("24 80"), "{}", terminal.history());
    assert_eq!(shell.wait().unwrap().code(), Some(0));
}

/// By the verb's own way: a terminal in raw mode, and a file as its input.
fn words_are_typed_and_answered(place: &Place) {
    place.succeed(&["exec", "n1", "systemd-run --quiet --unit=reader sh /root/reader"]);
    let mut command = place.command(&["console", "n1"]);
    let mut terminal = Terminal::new(80, 24);
    terminal.attach(&mut command);
    let mut console = command.spawn().unwrap();
    drop(command);
    terminal.wait_until("the question", LIMIT, |screen| screen.contents().contains("who is there?"));
    terminal.type_in("a test\r");
    terminal.wait_until("the answer", LIMIT, |screen| screen.contents().contains("good morning, a test"));
    // Ctrl-] ends it, and is not the guest's.
    terminal.type_in("\u{1d}");
    terminal.read_to_end(LIMIT);
    assert_eq!(console.wait().unwrap().code(), Some(0));

    let said = place.dir.path().join("said");
    let mut command = place.command(&["console", "n1"]);
    command.stdin(Stdio::piped()).stdout(std::fs::File::create(&said).unwrap());
    let mut console = command.spawn().unwrap();
    console.stdin.as_mut().unwrap().write_all(b"piped\n").unwrap();
    process::wait_for_text(&console, &said, "that was piped", LIMIT);
    console.kill().unwrap();
    console.wait().unwrap();
    assert_eq!(place.succeed(&["exec", "n1", "cat /root/heard"]), "a test\npiped\n");
}

fn logs(place: &Place) {
    let file = place.dir.path().join("followed");
    let mut command = place.command(&["logs", "-f", "--vm", "n1", "--stream", "journal", "--grep", "lo+k"]);
    let mut follower = command.stdout(std::fs::File::create(&file).unwrap()).spawn().unwrap();
    place.succeed(&["exec", "n1", "logger -t somebody 'look at this'; logger -t somebody 'not at that'"]);
    let said = process::wait_for_text(&follower, &file, "look at this", LIMIT);
    assert!(said.contains("n1 journal somebody"), "{said}");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let all = place.succeed(&["logs", "--vm", "n1", "--grep", "at th(is|at)"]);
    assert!(all.contains("look at this") && !all.contains("who is there"), "{all}");
    let console = place.succeed(&["logs", "--stream", "console", "--grep", "good morning"]);
    assert!(console.contains("n1 console good morning, a test"), "{console}");
}

fn screenshot(place: &Place) {
    place.succeed(&["screenshot", "n1", "picture.png"]);
    let picture = std::fs::read(place.dir.path().join("picture.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", picture.get(..16));
}

fn pause_and_resume(place: &Place) {
    place.succeed(&["pause", "n1"]);
    assert_eq!(place.state(), ("paused".to_owned(), 1));
    let refused = place.fail(&["exec", "n1", "true"]);
    assert!(refused.contains("VM n1 is paused\nhint: resume it with `resume n1`"), "{refused}");
    place.succeed(&["resume", "n1"]);
    assert_eq!(place.state(), ("running".to_owned(), 1));
    place.succeed(&["exec", "n1", "true"]);
}

fn kill_and_start(place: &Place) {
    place.succeed(&["exec", "n1", "sync"]);
    place.succeed(&["kill", "n1"]);
    assert_eq!(place.state(), ("off".to_owned(), 1));
    let refused = place.fail(&["exec", "n1", "true"]);
    assert!(refused.contains("VM n1 is off: power cut"), "{refused}");
    place.succeed(&["start", "n1"]);
    place.succeed(&["wait", "n1"]);
    assert_eq!(place.state(), ("running".to_owned(), 2));
    assert_eq!(place.succeed(&["exec", "n1", "cat /root/heard"]), "a test\npiped\n");
    // Its journal is followed again, which is what `up` shows.
    let answers = ["logs", "--vm", "n1", "--stream", "driver", "--grep", "it answers"];
    let count = || place.succeed(&answers).lines().count();
    let mut command =
        place.command(&["logs", "-f", "--vm", "n1", "--stream", "driver", "--grep", "it answers"]);
    let file = place.dir.path().join("answers");
    let mut follower = command.stdout(std::fs::File::create(&file).unwrap()).spawn().unwrap();
    while std::fs::read_to_string(&file).unwrap().lines().count() < 2 {
        assert!(!process::ends_within(&follower, Duration::from_millis(50)), "the group has ended");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(count(), 2);
}
