//! What is kept of testnets, in memory, in files and in the cache: damaged, mismatched, and left by
//! programs that were killed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::process::{ends_within, signal, wait_for_text};

use crate::support::{FAILED, Mishap, PASSED, Ran, USAGE, guest, program, random, seed};

/// More than a testnet needs to come up.
const LIMIT: Duration = Duration::from_secs(180);

/// How often each thing is killed.
const KILLS: usize = 5;

#[test]
fn a_failing_test_leaves_a_file_that_opens_its_testnet_on_a_fresh_account() {
    let kept = kept_failure(Mishap::new("fails-late"), "late-whole", &[]);
    let file = kept.path("out/failure.steading");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others could log in to the guest");
    assert!(kept.stdout.contains("steading resume "), "{}", kept.stdout);
    // Nothing of the account that it was written on is here: no cache, no home.
    let mut resume = Mishap::resume(&file);
    resume.command.args(["--clock", "still"]);
    let (child, stderr) = start(resume);
    let frozen = std::fs::metadata(&file).expect("the file").modified().expect("its time");
    wait_for_text(&child.1, &stderr, "continuing from ", LIMIT);
    let ask = Command::new(program())
        .args(["exec", "--group", "late-whole", "a", "cat /run/kept /root/kept; date +%s"])
        .env("MISHAP", "image")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&ask.stdout).into_owned();
    signal(&child.1, Signal::INT);
    let ran = child.0.wait(child.1);
    let shown = said.strip_prefix("only in memory\non the disk\n").map(|time| time.trim().parse::<u64>());
    let Some(Ok(shown)) = shown else { panic!("{said}{}", String::from_utf8_lossy(&ask.stderr)) };
    let since =
        |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let now = since(std::time::SystemTime::now());
    assert!(shown + 2 < now, "the clock stood still, and shows {shown} at {now}");
    assert!(shown <= since(frozen) + 10, "the clock shows {shown}, and the file is of {}", since(frozen));
    assert_eq!(ran.status.code(), Some(PASSED), "{}", ran.stderr);
    let page = std::fs::read_to_string(ran.path("out/run/report.html")).expect("the run's report");
    assert!(page.contains("as it must"), "the report is of another run");
}

#[test]
fn a_file_without_images_is_opened_only_where_they_are() {
    // The guest is not where the testnet says any more, as on another machine.
    let copy = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(guest()).expect("the guest") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
    }
    let mut run = Mishap::new("fails-late");
    run.command.env("STEADING_GUEST", copy.path());
    let kept = kept_failure(run, "late-bare", &["--without-images"]);
    copy.close().expect("the copy is removed");
    let ran = Mishap::resume(&kept.path("out/failure.steading")).run();
    ran.assert_code(USAGE);
    ran.assert_told(
        &["has no images, and the image of VM a is missing on this host (SHA-256 "],
        "--without-images",
    );
}

#[test]
fn a_file_that_is_damaged_or_does_not_match_is_refused_before_anything_starts() {
    let kept = kept_failure(Mishap::new("fails-late"), "late-damaged", &[]);
    let whole = std::fs::read(kept.path("out/failure.steading")).expect("the file");
    let refused = |name: &str, content: &[u8], said: &str| {
        let file = kept.dir.path().join(name);
        std::fs::write(&file, content).expect("write");
        let ran = Mishap::resume(&file).run();
        ran.assert_code(USAGE);
        assert!(ran.stderr.contains(said), "{name}: {said:?} is not in {}", ran.stderr);
        assert!(!ran.stderr.contains("continuing from"), "{name}: {}", ran.stderr);
    };
    refused("cut.steading", &whole[..whole.len() * 2 / 3], "is damaged");
    refused("cut-short.steading", &whole[..100], "is damaged");
    refused("empty.steading", &[], "is damaged");
    refused("text.steading", b"not one of ours", "is no frozen group");
    for place in [whole.len() / 3, whole.len() - 1000, whole.len() - 100, whole.len() - 3] {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        refused("bit.steading", &flipped, "is damaged");
    }
    let mut other = Mishap::resume(&kept.path("out/failure.steading"));
    let bin = tempfile::tempdir().expect("a directory");
    write_other_qemu(bin.path());
    let path = std::env::var("PATH").expect("PATH");
    other.command.env("PATH", format!("{}:{path}", bin.path().display()));
    let ran = other.run();
    ran.assert_code(USAGE).assert_told(&["this host has QEMU 99.1.0"], "on a host with QEMU");
    let ran = Mishap::resume(Path::new("none.steading")).run();
    ran.assert_code(USAGE);
    assert!(ran.stderr.contains("none.steading"), "{}", ran.stderr);
}

#[test]
fn freezing_and_forking_that_is_killed_leaves_nothing() {
    let mut state = seed();
    for _ in 0..KILLS {
        let mut run = Mishap::new("freezes").image(&vec![0; 1 << 20]);
        run.command.args(["--group", "killed-freezes", "--forks", "2"]);
        let (child, stderr) = start(run);
        wait_for_text(&child.1, &stderr, "forked::setup", LIMIT);
        kill_within(&child.1, &mut state, 2500);
        child.0.wait(child.1);
    }
}

#[test]
fn a_resume_that_is_killed_leaves_nothing() {
    let mut state = seed();
    let kept = kept_failure(Mishap::new("fails-late"), "late-killed", &[]);
    for _ in 0..KILLS {
        let (child, _) = start(Mishap::resume(&kept.path("out/failure.steading")));
        kill_within(&child.1, &mut state, 6000);
        child.0.wait(child.1);
    }
}

#[test]
fn a_warm_start_that_was_killed_while_it_was_kept_or_that_is_damaged_becomes_a_cold_one() {
    guest();
    let mut state = seed();
    let cache = tempfile::tempdir().expect("a directory");
    let warm = || {
        let mut run = Mishap::new("warm").with_cache(cache.path());
        run.command.args(["--group", "killed-warm"]).env("STEADING_WARM", "1");
        run
    };
    for _ in 0..2 {
        let (child, stderr) = start(warm());
        wait_for_text(&child.1, &stderr, "runs by", LIMIT);
        kill_within(&child.1, &mut state, 20_000);
        child.0.wait(child.1);
    }
    warm().run().assert_code(PASSED);
    let ran = warm().run();
    ran.assert_code(PASSED);
    assert!(ran.stderr.contains("continuing from the cached testnet"), "{}", ran.stderr);
    let entry = entry(cache.path());
    let memory = entry.join("a.memory");
    let mut content = std::fs::read(&memory).expect("the memory");
    let place = content.len() / 30;
    content[place] ^= 1;
    std::fs::write(&memory, content).expect("write");
    let ran = warm().run();
    ran.assert_code(PASSED);
    assert!(ran.stderr.contains("a.memory is not as it was written"), "{}", ran.stderr);
    std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(0o755)).expect("open it for all");
    let ran = warm().run();
    ran.assert_code(PASSED);
    assert!(ran.stderr.contains("others may write to it"), "{}", ran.stderr);
    let left: Vec<_> = std::fs::read_dir(entry.parent().expect("a directory"))
        .expect("the cache")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".new"))
        .collect();
    assert!(left.is_empty(), "left by those who were killed: {left:?}");
}

/// A run that failed, with the file that it left.
fn kept_failure(run: Mishap, group: &str, more: &[&str]) -> Ran {
    guest();
    let mut run = run.with_the_hosts_cache();
    run.command.args(["--freeze-on-failure", "--group", group]).args(more);
    let ran = run.run();
    ran.assert_code(FAILED);
    ran
}

fn start(mut run: Mishap) -> ((Mishap, Child), PathBuf) {
    let stderr = run.path("stderr");
    let child = run.command.spawn().expect("the program starts");
    ((run, child), stderr)
}

/// Kills a program at a random time, unless it ends before.
fn kill_within(child: &Child, state: &mut u64, milliseconds: u64) {
    if !ends_within(child, Duration::from_millis(random(state) % milliseconds)) {
        signal(child, Signal::KILL);
    }
}

/// The only booted testnet that is kept there.
fn entry(cache: &Path) -> PathBuf {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
    };
    let is_warm =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("warm-"));
    let warm = below(cache);
    let mut found = below(warm.iter().find(is_warm).expect("what is kept"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Puts a QEMU there that says it is another.
fn write_other_qemu(bin: &Path) {
    let program = bin.join("qemu-system-x86_64");
    std::fs::write(&program, "#!/bin/sh\necho 'QEMU emulator version 99.1.0'\n").expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may be run");
}
