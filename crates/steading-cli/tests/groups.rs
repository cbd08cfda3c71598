//! `steading` and groups that run, seen from outside. The testnets have no VM.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use steading_testing::process;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A directory with an empty testnet in a file of this name.
struct Place {
    dir: TempDir,
    name: String,
}

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Others of this user may run groups, too.
        let name = format!("{name}-{}", std::process::id());
        std::fs::write(dir.path().join(format!("{name}.toml")), "").unwrap();
        Self { dir, name }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(steading());
        command
            .args(args)
            .current_dir(&self.dir)
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn file(&self) -> String {
        format!("{}.toml", self.name)
    }

    /// Brings the testnet up in the background.
    fn up(&self) -> Group<'_> {
        let log = std::fs::File::create(self.dir.path().join("up")).unwrap();
        let child = self.command(&["up", &self.file()]).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let group = Group { place: self, child };
        group.wait_for("up", "the testnet is up");
        group
    }
}

struct Group<'a> {
    place: &'a Place,
    child: Child,
}

impl Group<'_> {
    /// Waits until a file has this text.
    fn wait_for(&self, file: &str, text: &str) {
        process::wait_for_text(&self.child, &self.place.dir.path().join(file), text, LIMIT);
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_group_that_is_up_is_found_read_and_torn_down_from_another_terminal() {
    let place = Place::new("found");
    let mut group = place.up();
    let ps = place.run(&["ps"]);
    assert!(text(&ps.stdout).contains(&format!("{} (owner", place.name)), "{}", text(&ps.stdout));
    let json = text(&place.run(&["ps", "--json"]).stdout);
    assert!(json.contains(&format!("\"group\": \"{}\"", place.name)), "{json}");
    assert!(place.run(&["logs", "--group", &place.name, "--stream", "driver"]).status.success());
    let down = place.run(&["down", "--group", &place.name]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(process::ends_within(&group.child, LIMIT));
    assert_eq!(group.child.wait().unwrap().code(), Some(0));
    let again = place.run(&["down", "--group", &place.name]);
    assert_eq!(again.status.code(), Some(2));
}

#[test]
fn logs_are_followed_until_the_group_ends() {
    let place = Place::new("followed");
    let group = place.up();
    let file = std::fs::File::create(place.dir.path().join("logs")).unwrap();
    let mut follower = place.command(&["logs", "-f", "-g", &place.name]).stdout(file).spawn().unwrap();
    group.wait_for("logs", "is up");
    place.run(&["down", "-g", &place.name]);
    assert!(follower.wait().unwrap().success());
    let said = std::fs::read_to_string(place.dir.path().join("logs")).unwrap();
    assert!(said.contains("the group is torn down"), "{said}");
}

#[test]
fn two_groups_of_one_name_are_told_apart_by_their_owners() {
    let place = Place::new("twins");
    let other = Place { dir: tempfile::tempdir().unwrap(), name: place.name.clone() };
    std::fs::write(other.dir.path().join(other.file()), "").unwrap();
    let (_first, _second) = (place.up(), other.up());
    let refused = place.run(&["logs", "-g", &place.name]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("several groups are named"), "{said}");
    let owner = said.split("(owner ").nth(1).and_then(|rest| rest.split(')').next()).unwrap().to_owned();
    assert!(place.run(&["logs", "-g", &owner]).status.success());
}

#[test]
fn what_there_is_not_is_told_with_what_there_is() {
    let place = Place::new("missing");
    let _group = place.up();
    let said = |args: &[&str]| text(&place.run(args).stderr);
    assert!(said(&["logs", "-g", "no-such-group"]).contains("no group named \"no-such-group\""));
    assert!(said(&["exec", "-g", &place.name, "n1", "true"]).contains("has no VM named \"n1\""));
    assert!(said(&["logs", "-g", &place.name, "--stream", "jornal"]).contains("(expected one of: console"));
}

#[test]
fn a_program_runs_inside_a_testnet_and_its_status_becomes_ours() {
    let place = Place::new("run");
    let script = "test -r $STEADING_FACTS && test -r $STEADING_SSH_KEY && echo in $STEADING_GROUP; exit 7";
    let ran = place.run(&["run", &place.file(), "--", "sh", "-c", script]);
    assert_eq!(ran.status.code(), Some(7), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), format!("in {}\n", place.name));
    let killed = place.run(&["run", &place.file(), "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(128 + 9));
}

#[test]
fn a_program_that_is_missing_is_told_and_nothing_stays() {
    let place = Place::new("absent");
    let ran = place.run(&["run", &place.file(), "--", "no-such-program"]);
    assert_eq!(ran.status.code(), Some(127));
    assert!(text(&ran.stderr).contains("no-such-program"), "{}", text(&ran.stderr));
    let ps = text(&place.run(&["ps"]).stdout);
    assert!(!ps.contains(&place.name), "{ps}");
}

#[test]
fn a_mistake_in_a_testnet_is_shown_with_its_place_before_anything_starts() {
    let place = Place::new("mistake");
    std::fs::write(place.dir.path().join(place.file()), "[[vm]]\nname = \"a\"\nvcpu = 1\n").unwrap();
    for args in [["plan", &place.file()], ["up", &place.file()]] {
        let said = place.run(&args);
        assert_eq!(said.status.code(), Some(2));
        assert!(text(&said.stderr).contains("hint: did you mean `vcpus`?"), "{}", text(&said.stderr));
    }
}

#[test]
fn a_file_of_fifty_megabytes_is_no_testnet() {
    let place = Place::new("large");
    std::fs::write(place.dir.path().join(place.file()), vec![b'#'; 50 << 20]).unwrap();
    let said = place.run(&["plan", &place.file()]);
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("has 52428800 bytes"), "{}", text(&said.stderr));
}

#[test]
fn a_reference_guest_that_is_not_there_is_told_with_its_vm_and_how_to_make_it() {
    let place = Place::new("guestless");
    std::fs::write(place.dir.path().join(place.file()), "[[vm]]\nname = \"a\"\nguest = \"reference\"\n")
        .unwrap();
    let ran = place.command(&["up", &place.file()]).env("STEADING_GUEST", "/no/such/guest").output().unwrap();
    assert_eq!(ran.status.code(), Some(3));
    let said = text(&ran.stderr);
    assert!(
        said.contains("VM a: cannot find its guest") && said.contains("hint: build one with guest/build"),
        "{said}"
    );
}

#[test]
fn completions_and_manual_pages_are_written() {
    let place = Place::new("pages");
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&place.run(&["completions", shell]).stdout).contains("steading"), "{shell}");
    }
    assert!(place.run(&["man", "."]).status.success());
    assert!(place.dir.path().join("steading-exec.1").is_file());
}
