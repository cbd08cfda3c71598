//! What it refuses, and that it changes nothing then.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{everything, in_arena, in_arena_on, interfaces, packets, plain};

#[test]
fn odd_words_are_refused_and_change_nothing() {
    in_arena("refusing::odd_words_are_refused_and_change_nothing", |launcher| {
        let before = everything();
        let long = "g".repeat(64);
        let many: Vec<String> = (0..129).map(|n| format!("n{n}")).collect();
        let many: Vec<&str> = ["make", "g"].into_iter().chain(many.iter().map(String::as_str)).collect();
        let cases: &[&[&str]] = &[
            &[],
            &[""],
            &["undo", "east"],
            &["make"],
            &["make", ""],
            &["make", "East"],
            &["make", "../../etc"],
            &["make", "/dev/null"],
            &["make", "east;reboot"],
            &["make", "-"],
            &["make", "--", "east"],
            &["make", "east\n"],
            &["make", "east", "a", "a"],
            &["make", "east", "a+ipv4+ipv4"],
            &["make", "east", "a+"],
            &["make", "east", "é"],
            &["make", &long],
            &many,
            &["router"],
            &["router", "nobodys"],
            &["router", "east", "--conf-file=/etc/shadow"],
            &["gc", "east"],
            &["check", "x"],
            &["MAKE", "east"],
        ];
        for words in cases {
            let (_ours, theirs) = packets();
            let output = launcher.command(*words).stdin(theirs).output().expect("start");
            assert!(!output.status.success(), "{words:?}");
            assert!(!output.stderr.is_empty(), "{words:?} is refused in silence");
        }
        let not_utf8 = [OsStr::new("make"), OsStr::from_bytes(b"ea\xffst")];
        assert!(launcher.refusal(not_utf8).contains("not UTF-8"));
        assert_eq!(everything(), before);
    });
}

#[test]
fn words_at_random_make_a_group_or_nothing() {
    in_arena("refusing::words_at_random_make_a_group_or_nothing", |launcher| {
        let word = prop_oneof![
            Just("make".to_owned()),
            Just("router".to_owned()),
            Just("gc".to_owned()),
            "[a-z0-9+-]{0,8}",
            "[a-z]{1,4}(\\+ipv4)?",
            "\\PC{0,12}",
        ];
        let mut runner =
            TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
        let before = everything();
        let outcome = runner.run(&prop::collection::vec(word, 0..5), |words| {
            let (ours, theirs) = packets();
            let mut command = launcher.command(&words);
            let mut child =
                command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
            drop(command);
            // Whatever it does, this ends it.
            drop(ours);
            child.wait().expect("its end");
            prop_assert_eq!(everything(), before.clone(), "{:?}", words);
            Ok(())
        });
        outcome.expect("no counterexample");
    });
}

#[test]
fn its_name_its_environment_and_its_directory_do_not_matter() {
    in_arena("refusing::its_name_its_environment_and_its_directory_do_not_matter", |launcher| {
        let dir = tempfile::tempdir().expect("a directory");
        let fake = dir.path().join("dnsmasq");
        std::fs::write(&fake, "#!/bin/sh\ntouch was-run\n").expect("write");
        let link = dir.path().join("a link; rm -rf");
        std::os::unix::fs::symlink(&launcher.path, &link).expect("a link");
        let (_ours, theirs) = packets();
        let kept = launcher.made("east a");
        let mut command = Command::new(&link);
        command
            .arg0("-bash")
            .args(["router", "east", "a"])
            .env_clear()
            .env("PATH", dir.path())
            .env("LD_PRELOAD", "/no/such/library.so")
            .env("LD_LIBRARY_PATH", dir.path())
            .env("STEADING_GROUP", "other")
            .env("RUST_BACKTRACE", "full")
            .current_dir(dir.path())
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut router = command.spawn().expect("start");
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(router.stderr.take().expect("a pipe")));
        let started = lines.by_ref().map_while(Result::ok).find(|line| line.contains("started, version"));
        assert!(started.is_some(), "the host's own dnsmasq has not started");
        let environment = std::fs::read(format!("/proc/{}/environ", router.id()));
        assert!(environment.is_err(), "nobody but root looks into a process with more capabilities");
        router.kill().expect("a user may end what is their own");
        router.wait().expect("its end");
        assert!(!dir.path().join("was-run").exists());
        kept.close();
    });
}

#[test]
fn without_standard_streams_or_with_others_it_makes_nothing() {
    in_arena("refusing::without_standard_streams_or_with_others_it_makes_nothing", |launcher| {
        let before = everything();
        let path = launcher.path.display();
        for redirections in
            ["<&- >&- 2>&-", "</dev/null", "<&-", "</etc/passwd", "2>&-", "0>/dev/full", "0<>/dev/net/tun"]
        {
            let script = format!("'{path}' make east a {redirections}");
            let status =
                Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
            assert!(!status.expect("sh").success(), "{redirections}");
        }
        // A stream is no socket of packets.
        let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let mut command = launcher.command(["make", "east", "a"]);
        let status = command.stdin(std::os::fd::OwnedFd::from(theirs)).stderr(Stdio::null()).status();
        assert!(!status.expect("start").success());
        assert_eq!(everything(), before);
    });
}

#[test]
fn without_descriptors_or_files_it_makes_all_or_nothing() {
    in_arena("refusing::without_descriptors_or_files_it_makes_all_or_nothing", |launcher| {
        for limit in 3..16 {
            let (ours, theirs) = packets();
            let script = format!("ulimit -n {limit}; exec '{}' make east a b+ipv4", launcher.path.display());
            let mut command = Command::new("sh");
            command.args(["-c", &script]).stdin(theirs).stderr(Stdio::null());
            let mut child = command.spawn().expect("sh");
            drop((command, ours));
            child.wait().expect("its end");
            assert!(interfaces().is_empty(), "with {limit} descriptors: {:?}", interfaces());
        }
    });
}

#[test]
fn a_driver_that_takes_nothing_or_goes_at_once_leaves_nothing() {
    in_arena("refusing::a_driver_that_takes_nothing_or_goes_at_once_leaves_nothing", |launcher| {
        let words: Vec<String> = ["make".to_owned(), "east".to_owned()]
            .into_iter()
            .chain((0..100).map(|n| format!("n{n}")))
            .collect();
        let (ours, theirs) = packets();
        let mut command = launcher.command(&words);
        let mut child = command.stdin(theirs).stderr(Stdio::null()).spawn().expect("start");
        drop(command);
        // More is handed over than the socket holds, so it waits, until there is nobody.
        steading_testing::process::ends_within(&child, std::time::Duration::from_secs(1));
        drop(ours);
        child.wait().expect("its end");
        assert!(interfaces().is_empty(), "{:?}", interfaces());
    });
}

#[test]
fn what_the_host_has_already_is_not_taken() {
    in_arena("refusing::what_the_host_has_already_is_not_taken", |launcher| {
        // The same addresses at another interface: here by another name of the same group's, there is no
        // other way to come by one without a capability.
        let kept = launcher.made("east a+ipv4");
        let addresses = steading_plan::LaunchRequest::parse(["east"]).expect("a name").addresses();
        let twin = (0..100_000).map(|n| format!("g{n}")).find(|name| {
            let other = steading_plan::LaunchRequest::parse([name.as_str()]).expect("a name").addresses();
            other.ipv4 == addresses.ipv4
        });
        let twin = twin.expect("one in 65536 has the same IPv4");
        let before = everything();
        let mut refused = launcher.make(&format!("{twin} a+ipv4"));
        let said = refused.complaint();
        assert!(said.contains(&format!("would take {}", addresses.ipv4)), "{said}");
        assert_eq!(everything(), before);
        // Without second cards they do not meet.
        launcher.made(&format!("{twin} a")).close();
        kept.close();
    });
}

#[test]
fn started_without_new_privileges_or_without_capabilities_it_says_why_it_can_do_nothing() {
    in_arena(
        "refusing::started_without_new_privileges_or_without_capabilities_it_says_why_it_can_do_nothing",
        |launcher| {
            let mut command = Command::new("setpriv");
            let output =
                command.arg("--no-new-privs").arg(&launcher.path).arg("check").output().expect("setpriv");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("no_new_privs"), "{said}");
            let output = Command::new(plain()).arg("check").output().expect("start");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("hint: as root: setcap"), "{said}");
        },
    );
}

#[test]
fn a_router_daemon_is_for_ones_own_group_that_runs() {
    in_arena("refusing::a_router_daemon_is_for_ones_own_group_that_runs", |launcher| {
        assert!(launcher.refusal(["router", "east", "a"]).contains("you have no group east"));
        launcher.made("east a").kill();
        assert!(launcher.refusal(["router", "east", "a"]).contains("you have no group east"));
        assert!(launcher.run(["gc"]).status.success());
        assert!(interfaces().is_empty());
    });
}

#[test]
fn what_is_anothers_is_left_alone_and_not_taken() {
    let of = |group: &str| steading_plan::LaunchRequest::parse([group, "a"]).expect("names");
    let bridge = |group: &str| of(group).addresses().bridge.to_string();
    let (theirs, plain, odd, tap) =
        (bridge("theirs"), bridge("plain"), bridge("odd"), of("east").taps()[0].to_string());
    // Their launchers have ended long since; all the same they are theirs.
    let namespace = std::fs::read_link("/proc/self/ns/pid").expect("a link");
    let namespace = namespace.to_str().expect("UTF-8").trim_matches(|c: char| !c.is_ascii_digit());
    let host = format!(
        "for name in {theirs} {plain} {odd} lan vbr+7; do ip link add $name type bridge; done
         ip link set {theirs} alias 'steading 1 uid=4242 keeper=1-1-{namespace} group=theirs'
         ip link set {odd} alias \"steading 1 uid=$(id -u) keeper=1-1-{namespace} group=odd \"
         ip link set lan alias 'steading 1'
         ip addr add 10.0.0.1/8 dev lan
         ip tuntap add {tap} mode tap
         ip link set lan up"
    );
    in_arena_on(&host, "refusing::what_is_anothers_is_left_alone_and_not_taken", |launcher| {
        // The kernel sets IPv6 addresses up in its own time.
        let links = || (interfaces(), crate::support::ip("-o -4 addr"));
        let before = links();
        assert_eq!(before.0.len(), 6, "{before:?}");
        let collected = launcher.run(["gc"]);
        assert!(collected.status.success() && collected.stdout.is_empty(), "{collected:?}");
        assert!(launcher.make("theirs a").complaint().starts_with("another user has a group theirs"));
        assert!(launcher.make("plain a").complaint().starts_with("somebody has a group plain"));
        assert!(launcher.make("odd a").complaint().starts_with("somebody has a group odd"));
        let said = launcher.make("east a").complaint();
        assert!(said.contains(&format!("cannot make the TAP {tap}")), "{said}");
        assert!(launcher.refusal(["router", "theirs", "a"]).contains("you have no group theirs"));
        assert!(launcher.make("west a+ipv4").complaint().contains("this host has 10.0.0."));
        assert_eq!(links(), before);
        launcher.made("west a").close();
        assert_eq!(links(), before);
    });
}
