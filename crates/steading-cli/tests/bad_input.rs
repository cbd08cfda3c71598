//! Every command for a group that runs, with everything that can be wrong with what it is given.
//!
//! The testnet has two VMs that are never started, so nothing here needs an emulator's time.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::process::{self, signal_to};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// What is said of a mistake of the caller.
const USAGE: i32 = 2;

/// What is said of what this machine does not have, or cannot use.
const HOST: i32 = 3;

/// The status of a caller's mistake: commands that pass on another status have one of their own for it.
fn misuse(words: &[impl AsRef<str>]) -> i32 {
    match words[0].as_ref() {
        "exec" | "ssh" => 255,
        "run" => 125,
        _ => USAGE,
    }
}

/// Every command that is about a VM, which stands where `VM` does.
const OF_A_VM: &[&[&str]] = &[
    &["exec", "VM", "true"],
    &["ssh", "VM"],
    &["console", "VM"],
    &["logs", "--vm", "VM"],
    &["wait", "VM"],
    &["wait", "VM", "--port", "22"],
    &["screenshot", "VM", "picture.png"],
    &["start", "VM"],
    &["kill", "VM"],
    &["reboot", "VM"],
    &["shutdown", "VM"],
    &["pause", "VM"],
    &["resume", "VM"],
    &["fault", "cut", "VM"],
    &["fault", "partition", "node-2", "VM"],
    &["fault", "loss", "node-2", "10", "--to", "VM"],
    &["fault", "rate", "node-2,VM", "1mbit"],
    &["fault", "delay", "VM", "20ms", "--jitter", "5ms"],
    // Of several VMs none is touched when one is not there.
    &["start", "node-2", "VM"],
];

/// Every command that is about a group.
const OF_A_GROUP: &[&[&str]] = &[
    &["logs"],
    &["logs", "-f"],
    &["freeze"],
    &["freeze", "--list"],
    &["thaw"],
    &["fork"],
    &["fault", "ls"],
    &["fault", "undo", "--all"],
    &["files", "ls"],
    &["files", "undo", "--all"],
    &["dns", "ls"],
    &["dns", "rm", "api"],
    &["cert", "--authority"],
    &["down"],
];

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// All commands, for this VM.
fn commands(vm: &str) -> Vec<Vec<String>> {
    let words = |command: &&[&str]| command.iter().map(|word| word.replace("VM", vm)).collect();
    OF_A_VM.iter().chain(OF_A_GROUP).map(words).collect()
}

struct Place {
    dir: TempDir,
    name: String,
}

struct Group {
    child: Child,
    owner: u32,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk"), vec![0; 1 << 20]).unwrap();
        let name = format!("{name}-{}", std::process::id());
        let vm = |number| {
            format!(
                "[[vm]]\nname = \"node-{number}\"\nboot = \"bios\"\nautostart = false\ndisplay = true\ndisk = {{ path = \"disk\" }}\n"
            )
        };
        std::fs::write(dir.path().join(format!("{name}.toml")), [vm(1), vm(2)].concat()).unwrap();
        Self { dir, name }
    }

    fn command(&self, words: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new(steading());
        command
            .args(words.iter().map(AsRef::as_ref))
            .current_dir(&self.dir)
            .env("STEADING_ACCEL", "tcg")
            .env("STEADING_CACHE_DIR", self.dir.path().join("cache"))
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on a group; it ends by itself.
    fn on(&self, group: &str, words: &[impl AsRef<str>]) -> Output {
        let mut command = self.command(words);
        command.args(["--group", group]).stdout(Stdio::piped()).stderr(Stdio::piped());
        // `exec` takes all that follows as the guest's.
        if words[0].as_ref() == "exec" {
            command = self.command(&["--group", group]);
            command.args(words.iter().map(AsRef::as_ref)).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let child = command.spawn().unwrap();
        let what: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        process::wait_for_end(&child, LIMIT, &what.join(" "));
        child.wait_with_output().unwrap()
    }

    /// Brings the testnet up in the background.
    fn up(&self) -> Group {
        let log = self.dir.path().join("up");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command(&["up", &format!("{}.toml", self.name)]);
        let child = command.stderr(file).stdout(Stdio::null()).spawn().unwrap();
        let said = process::wait_for_text(&child, &log, "control API: /proc/", LIMIT);
        let owner = said.split("control API: /proc/").nth(1).and_then(|rest| rest.split('/').next());
        Group { owner: owner.unwrap().parse().unwrap(), child }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was said, which must be an error with all of this in it, and advice.
fn assert_told(words: &[impl AsRef<str>], output: &Output, code: i32, parts: &[&str]) {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{words:?}: {said}");
    assert!(!said.contains("panicked"), "{words:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{words:?}: {part:?} is not in {said}");
    }
}

#[test]
fn a_vm_that_is_not_there_is_told_by_every_command_with_the_one_that_was_meant() {
    let place = Place::new("novm");
    let _group = place.up();
    for words in commands("nod-1").iter().take(OF_A_VM.len()) {
        let told = ["has no VM named \"nod-1\"", "did you mean node-1? It has: node-1, node-2"];
        assert_told(words, &place.on(&place.name, words), misuse(words), &told);
    }
    let other = place.on(&place.name, &["ssh", "zzz"]);
    assert!(!String::from_utf8_lossy(&other.stderr).contains("did you mean"));
    let states = place.command(&["ps", "--json"]).output().unwrap();
    let states: serde_json::Value = serde_json::from_slice(&states.stdout).unwrap();
    let ours = states.as_array().unwrap().iter().find(|group| group["group"] == place.name.as_str()).unwrap();
    assert!(ours["vms"].as_array().unwrap().iter().all(|vm| vm["boot"] == 0), "one was started: {ours}");
}

#[test]
fn a_vm_that_is_off_is_told_at_once() {
    let place = Place::new("off");
    let _group = place.up();
    for words in [&["exec", "node-1", "true"][..], &["ssh", "node-1"]] {
        assert_told(
            words,
            &place.on(&place.name, words),
            misuse(words),
            &["VM node-1 is off", "`start node-1`"],
        );
    }
    let without_power: [&[&str]; 7] = [
        &["wait", "node-1"],
        &["wait", "node-1", "--console", "login"],
        &["screenshot", "node-1", "picture.png"],
        &["reboot", "node-1"],
        &["shutdown", "node-1"],
        &["pause", "node-1"],
        &["resume", "node-1"],
    ];
    for words in without_power {
        let output = place.on(&place.name, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(misuse(words)), "{words:?}: {said}");
        assert!(said.contains("VM node-1") && said.contains("it was not started yet"), "{words:?}: {said}");
    }
}

#[test]
fn a_fault_that_cannot_be_is_told_with_what_could_be() {
    let place = Place::new("fault");
    let _group = place.up();
    let cases: &[(&[&str], &str)] = &[
        (&["fault", "undo", "7"], "none is active"),
        (&["fault", "partition", "node-1,node-2", "node-2"], "VM node-2 is on both sides"),
        (&["fault", "loss", "node-1", "0"], "0 is no share"),
        (&["fault", "loss", "node-1", "101"], "101 is no share"),
        (&["fault", "loss", "node-1", "NaN"], "NaN is no share"),
        (&["fault", "delay", "node-1", "61s"], "is no delay"),
        (&["fault", "delay", "node-1", "1ms", "--jitter", "2ms"], "more than the delay"),
        (&["fault", "duplicate", "node-1", "101"], "101 is no share"),
        (&["fault", "reorder", "node-1", "5", "0ms"], "is no delay"),
        (&["fault", "rate", "node-1", "7999bit"], "7999 bits a second are too few"),
    ];
    for (words, part) in cases {
        assert_told(words, &place.on(&place.name, words), misuse(words), &[part]);
    }
    let listed = || String::from_utf8(place.on(&place.name, &["fault", "ls"]).stdout).unwrap();
    assert_eq!(listed(), "", "of those, none is active");
    assert_eq!(place.on(&place.name, &["fault", "cut", "node-1"]).stdout, b"1\n");
    assert_eq!(place.on(&place.name, &["fault", "loss", "node-1", "2.5", "--to", "node-2"]).stdout, b"2\n");
    assert_eq!(listed(), "1    cut node-1 from everybody\n2    lose 2.5 % of what node-1 sends to node-2\n");
    assert!(place.on(&place.name, &["fault", "undo", "1"]).status.success());
    assert_told(
        &["fault", "undo", "1"],
        &place.on(&place.name, &["fault", "undo", "1"]),
        USAGE,
        &["active are: 2"],
    );
    assert!(place.on(&place.name, &["fault", "undo", "--all"]).status.success());
    assert_eq!(listed(), "");
}

#[test]
fn a_group_that_is_not_there_or_not_any_more_is_told_by_every_command() {
    let place = Place::new("dead");
    let mut group = place.up();
    let near = place.name.replacen("dead", "daed", 1);
    for words in commands("node-1") {
        let told = [&format!("no group named {near:?}"), &format!("did you mean {}?", place.name)];
        assert_told(&words, &place.on(&near, &words), misuse(&words), &told.map(String::as_str));
    }
    // Killed, with nobody to clean up.
    signal_to(group.owner, Signal::KILL);
    process::wait_for_end(&group.child, LIMIT, "the runner of a group whose owner was killed");
    group.child.wait().unwrap();
    let owner = group.owner.to_string();
    for words in commands("node-1") {
        for gone in [&place.name, &owner] {
            let output = place.on(gone, &words);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Which of the two depends on whether other groups of this user run.
            let is_told = said.contains("no group named") || said.contains("you have no running group");
            assert!(is_told && output.status.code() == Some(misuse(&words)), "{words:?}: {said}");
        }
    }
}

#[test]
fn two_groups_of_one_name_are_told_by_every_command_with_their_owners() {
    let place = Place::new("two");
    let (first, second) = (place.up(), place.up());
    let owners = [first.owner, second.owner].map(|owner| format!("(owner {owner})"));
    for words in commands("node-1") {
        let told = ["several groups are named", &owners[0], &owners[1]];
        assert_told(&words, &place.on(&place.name, &words), misuse(&words), &told);
    }
}

#[test]
fn an_owner_that_does_not_answer_is_told_and_not_waited_for_without_end() {
    let place = Place::new("stopped");
    let group = place.up();
    signal_to(group.owner, Signal::STOP);
    // One is enough: all choose their group in the same way, and this one takes its time.
    let told = [&format!("owner {} of group stopped-", group.owner), "has not answered for"];
    for by in [&place.name, &group.owner.to_string()] {
        assert_told(&["logs"], &place.on(by, &["logs"]), USAGE, &told.map(AsRef::as_ref));
    }
    signal_to(group.owner, Signal::CONT);
    assert!(place.on(&place.name, &["logs"]).status.success());
}

/// A process that is called like an owner and has a directory with a socket, as owners have, behind
/// which this test answers as no owner of this version does.
#[test]
fn an_owner_of_another_version_is_told_by_every_command() {
    let place = Place::new("other");
    let listener = UnixListener::bind(place.dir.path().join("control")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let body = r#"{"group":"named otherwise","machines":[]}"#;
            let length = body.len();
            // Who asked may have gone.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        }
    });
    let shell = place.dir.path().join("st:other");
    std::fs::copy("/bin/bash", &shell).unwrap();
    let mut owner = Command::new(&shell);
    owner.args(["-c", "exec 900<.; echo open; read -r _"]).current_dir(&place.dir).arg0("owner");
    let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "open\n");
    let number = owner.id().to_string();
    for words in commands("node-1") {
        for by in ["other", &number] {
            let told = ["belongs to another version of Steading", &number];
            assert_told(&words, &place.on(by, &words), misuse(&words), &told);
        }
    }
    let listed = place.command(&["ps"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stderr).contains("belongs to another version of Steading"));
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_any_group_is_asked() {
    let place = Place::new("nonsense");
    let large = "x".repeat(100_000);
    let cases: &[(&[&str], &str)] = &[
        (&["exec", "node-1"], "<COMMAND>"),
        (&["ssh"], "<VM>"),
        (&["console", "a", "b"], "unexpected argument"),
        (&["logs", "--grep", "("], "unclosed group"),
        (&["logs", "--since", "yesterday"], "expected a duration (10s, 5min, 2h) or a time"),
        (&["logs", "--vm"], "value is required"),
        (&["wait", "node-1", "--port", "65536"], "65536"),
        (&["wait", "node-1", "--port", "0"], "--port"),
        (&["wait", "node-1", "--port", "ssh"], "invalid digit"),
        (&["wait", "node-1", "--console", "["], "unclosed character class"),
        (&["wait", "node-1", "--limit", "soon"], "expected a duration"),
        (&["wait", "node-1", "--limit=-5s"], "expected a positive duration"),
        (&["screenshot", "node-1"], "<FILE>"),
        (&["start"], "<VMS>"),
        (&["kill"], "<VMS>"),
        (&["reboot"], "<VMS>"),
        (&["shutdown"], "<VMS>"),
        (&["pause"], "<VMS>"),
        (&["resume"], "<VM|FILE>"),
        (&["down", "now"], "unexpected argument"),
        (&["freeze", "--forget"], "<ID>"),
        (&["fault"], "fault"),
        (&["fault", "cut"], "<VMS>"),
        (&["fault", "partition", "a"], "<OTHERS>"),
        (&["fault", "loss", "a"], "<PERCENT>"),
        (&["fault", "loss", "a", "many"], "invalid float"),
        (&["fault", "loss", "a", "5", "--to", "b", "--incoming"], "cannot be used with"),
        (&["fault", "rate", "a", "fast"], "no rate"),
        (&["fault", "delay", "a"], "<DELAY>"),
        (&["fault", "delay", "a", "soon"], "no delay"),
        (&["fault", "delay", "a", "1ms", "--jitter", "1"], "no delay"),
        (&["fault", "duplicate", "a"], "<PERCENT>"),
        (&["fault", "reorder", "a", "5"], "<BY>"),
        (&["fault", "undo"], "<ID>"),
        (&["fault", "undo", "x"], "invalid digit"),
        (&["fault", "undo", "1", "--all"], "cannot be used with"),
        (&["up"], "<TOPOLOGY>"),
        (&["run", "x.toml"], "<COMMAND>"),
        (&["run", "x.toml", "true"], "unexpected argument"),
        (&["image", "gc", "--days", "many"], "invalid digit"),
        (&["image", "import", "disk", "--sha256", "abc"], "abc"),
        (&["completions", "cmd"], "possible values"),
        (&["consle", "node-1"], "console"),
        (&[&large], "unrecognized subcommand"),
    ];
    for (words, part) in cases {
        let output = place.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(misuse(words)), "{words:.40?}: {said}");
        assert!(said.contains(part), "{words:.40?}: {part:?} is not in {said}");
    }
}

#[test]
fn files_and_directories_that_are_not_there_are_named() {
    let place = Place::new("nofile");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["up", "missing"], USAGE, "cannot open the testnet `missing`: No such file"),
        (&["run", "missing", "--", "true"], 125, "cannot open the testnet `missing`: No such file"),
        (&["plan", "missing"], USAGE, "cannot open the testnet `missing`: No such file"),
        (&["plan", "."], USAGE, "cannot read the testnet `.`: Is a directory"),
        (&["report", "missing"], USAGE, "cannot read the results of a run in missing"),
        (&["resume", "./disk"], USAGE, "./disk is no frozen group"),
        (&["resume", "./missing"], USAGE, "cannot read the frozen group in ./missing"),
        (&["image", "import", "missing"], HOST, "cannot open image missing"),
        (&["nextest", "--binaries", "missing"], USAGE, "cannot read the nextest list `missing`"),
        (&["select", "--local", "missing"], USAGE, "cannot read labels for --local"),
        (&["man", "missing"], USAGE, "cannot write manual pages to missing"),
    ];
    for (words, status, part) in cases {
        let output = place.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{words:?}: {said}");
        assert!(said.contains(part) && said.starts_with("error: "), "{words:?}: {part:?} is not in {said}");
    }
    let name = format!("{}.toml", place.name);
    for (group, part) in [("", "name"), ("a b", "a b"), (&"x".repeat(300), "xxx")] {
        let output = place.command(&["up", &name, "--group", group]).output().unwrap();
        assert_told(&["up", group], &output, USAGE, &[part]);
    }
}

#[test]
fn an_image_that_cannot_be_used_has_one_status_whoever_unpacks_it() {
    let place = Place::new("image");
    std::fs::write(place.dir.path().join("page"), "<html>").unwrap();
    let testnet = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"page\" }\n";
    std::fs::write(place.dir.path().join("page.toml"), testnet).unwrap();
    for words in [&["image", "import", "page"][..], &["run", "page.toml", "--", "true"], &["up", "page.toml"]]
    {
        let output = place.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // `run` tells its own errors apart from its program's.
        let code = if words[0] == "run" { misuse(words) } else { HOST };
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains("image page has the wrong format: it looks like a web page\nhint: "), "{said}");
    }
}

#[test]
fn a_usage_shows_no_option_that_only_the_environment_gives() {
    let place = Place::new("usage");
    let mut command = place.command(&["run", "x.toml"]);
    let output = command.env("STEADING_NO_BROKER", "1").env("STEADING_ENGINE", "qemu").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Usage: steading run <TOPOLOGY> -- <COMMAND>..."), "{said}");
}

#[test]
fn a_testnet_whose_file_is_called_like_no_group_has_a_derived_name() {
    let place = Place::new("derived");
    let testnet = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"disk\" }\n";
    for (file, group) in [("My Net.toml", "my-net"), ("a.b.toml", "a-b")] {
        std::fs::write(place.dir.path().join(file), testnet).unwrap();
        let output = place.command(&["plan", file]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("group       {group}\n")), "{said}");
    }
    std::fs::write(place.dir.path().join("名.toml"), testnet).unwrap();
    let output = place.command(&["plan", "名.toml"]).output().unwrap();
    assert_told(&["plan"], &output, USAGE, &["名.toml", "--group"]);
}

#[test]
fn names_and_certificates_that_cannot_be_are_told() {
    let place = Place::new("names");
    let _group = place.up();
    let on = |words: &[&str]| place.on(&place.name, words);
    let told = |words: &[&str], parts: &[&str]| assert_told(words, &on(words), misuse(words), parts);
    told(&["dns", "add", "a b", "10.0.0.1"], &["\"a b\" is no DNS name"]);
    told(&["dns", "add", "api", "nobody"], &["VM \"nobody\", which is not there"]);
    told(&["dns", "add", "api"], &["no record given for api", "--cname"]);
    told(&["dns", "claim", "127.0.0.53"], &["127.0.0.53 cannot be claimed"]);
    told(&["dns", "rm", "api"], &["there is no such record: api.", "no record was added"]);
    told(&["cert", "www.debian.org"], &["www.debian.org is no name of the group", "add a record"]);
    told(&["cert", "api", "9.9.9.9"], &["9.9.9.9 is no address of the group"]);

    let said = |words: &[&str]| {
        let output = on(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    said(&["dns", "add", "registry.example.com", "10.0.0.1"]);
    said(&["dns", "add", "note", "--txt", "a text"]);
    said(&["dns", "claim", "2001:4860:4860::8888"]);
    let listed = said(&["dns", "ls"]);
    for line in ["registry.example.com A 10.0.0.1", "TXT \"a text\"", "resolver 2001:4860:4860::8888"] {
        assert!(listed.contains(line), "{listed}");
    }
    let printed = said(&["cert", "registry.example.com"]);
    assert_eq!(printed.matches("BEGIN CERTIFICATE").count(), 2, "{printed}");
    assert!(printed.contains("BEGIN PRIVATE KEY"), "{printed}");
    let dir = place.dir.path().join("tls");
    said(&["cert", "api", "--out", dir.to_str().unwrap()]);
    let authority = said(&["cert", "--authority"]);
    assert_eq!(std::fs::read_to_string(dir.join("ca.pem")).unwrap(), authority);
    assert_eq!(said(&["dns", "rm", "registry.example.com"]), "registry.example.com A 10.0.0.1\n");
    told(&["dns", "rm", "note", "--txt", "another"], &["there is no such record", "note TXT \"a text\""]);
}

#[test]
fn files_that_are_none_and_faults_that_make_no_sense_are_told() {
    let place = Place::new("files");
    let _group = place.up();
    let on = |words: &[&str]| place.on(&place.name, words);
    let told = |words: &[&str], parts: &[&str]| assert_told(words, &on(words), misuse(words), parts);
    let file = place.dir.path().join("update.img");
    std::fs::write(&file, "image").unwrap();
    let file = file.to_str().unwrap();

    told(&["files", "url", "update.img"], &["no file is served as \"update.img\"", "none is served at all"]);
    told(&["files", "add", "/nowhere/update.img"], &["cannot read /nowhere/update.img: No such file"]);
    told(&["files", "add", "/proc"], &["/proc is no regular file"]);
    told(&["files", "add", file, "--name", "a/b"], &["a file cannot be served as \"a/b\": it holds a slash"]);
    let other = "0".repeat(64);
    told(&["files", "add", file, "--sha256", &other], &["the SHA-256 of", &other]);

    let added = on(&["files", "add", file]);
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    let url = on(&["files", "url", "update.img"]);
    assert_eq!(url.stdout, added.stdout);
    told(&["files", "url", "updat.img"], &["there are: update.img"]);
    told(&["files", "rm", "updat.img"], &["there are: update.img"]);
    told(&["files", "cut", "5", "updat.img"], &["there are: update.img"]);
    told(&["files", "fail", "200"], &["the status 200 is no error"]);
    told(&["files", "slow", "0"], &["at a rate of nothing no answer ends"]);
    told(&["files", "undo", "7"], &["no fault with the number 7 is active"]);
    let cut = on(&["files", "cut", "5", "update.img"]);
    assert_eq!(cut.stdout, b"1\n", "{cut:?}");
    let listed = String::from_utf8(on(&["files", "ls"]).stdout).unwrap();
    assert!(listed.contains("5 update.img\n") && listed.contains("cut update.img after 5 bytes"), "{listed}");

    std::fs::write(file, "changed").unwrap();
    told(&["files", "url", "update.img"], &["the file update.img has changed"]);
    std::fs::remove_file(file).unwrap();
    told(&["files", "url", "update.img"], &["the file update.img has vanished", file]);
    let listed = String::from_utf8(on(&["files", "ls"]).stdout).unwrap();
    assert!(listed.contains("(cannot be downloaded)"), "{listed}");
}

#[test]
fn a_testnet_with_files_that_are_none_does_not_come_up() {
    let place = Place::new("nofile");
    let testnet = |text: &str| std::fs::write(place.dir.path().join("t.toml"), text).unwrap();
    let up = || place.command(&["up", "t.toml"]).output().unwrap();
    testnet("[[file]]\npath = \"gone.img\"\n");
    let said = String::from_utf8(up().stderr).unwrap();
    assert!(said.contains("cannot serve gone.img: cannot read gone.img: No such file"), "{said}");
    testnet("[[file]]\npath = \"a/x\"\n[[file]]\npath = \"b/x\"\n");
    let said = String::from_utf8(up().stderr).unwrap();
    assert!(said.contains("two files are to be served as \"x\": a/x and b/x\nhint: "), "{said}");
    testnet("[[file]]\npth = \"a\"\n");
    let said = String::from_utf8(up().stderr).unwrap();
    assert!(said.contains("did you mean `path`?"), "{said}");
}
