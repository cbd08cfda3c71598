//! The commands of a test program for its own group: those of `steading` (whose table is in
//! `crates/steading-cli/tests/bad_input.rs`), which mean the group of the suite.

use steading::exit_code;
use steading_testing::process::{signal, wait_for_text};

use crate::support::{LIMIT, Scenario};

const USAGE: i32 = exit_code::USAGE as i32;

/// The status of a mistake: `exec` and `ssh` pass another's status on, and have one of their own for it.
fn misuse(words: &[&str]) -> i32 {
    if ["exec", "ssh"].contains(&words[0]) { exit_code::REMOTE_FAILED.into() } else { USAGE }
}

const VERBS: &[&[&str]] = &[
    &["exec", "n1", "true"],
    &["ssh", "n1"],
    &["console", "n1"],
    &["logs", "--vm", "n1"],
    &["wait", "n1"],
    &["screenshot", "n1", "picture.png"],
    &["start", "n1"],
    &["kill", "n1"],
    &["reboot", "n1"],
    &["shutdown", "n1"],
    &["pause", "n1"],
    &["resume", "n1"],
];

#[test]
fn without_a_group_of_the_suite_every_command_says_so() {
    for words in VERBS.iter().chain(&[&["logs"][..], &["down"]]) {
        let ran = Scenario::new("never", words).run();
        ran.assert_code(misuse(words));
        let is_told = ["no group named \"never\"", "you have no running group"];
        assert!(is_told.iter().any(|told| ran.stderr.contains(told)), "{words:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("\nhint: ") && !ran.stderr.contains("panicked"),
            "{words:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn the_group_of_the_suite_is_meant_and_a_vm_that_it_has_not_is_told() {
    let group = format!("verbs-{}", std::process::id());
    let mut scenario = Scenario::new("waits", &["--group", &group]);
    let child = scenario.command.spawn().expect("it starts");
    wait_for_text(&child, &scenario.dir.path().join("trace"), "waiting", LIMIT);
    for words in VERBS {
        // Before a command there are filters: there it would be one.
        let words = [&words[..1], &["--group", &group], &words[1..]].concat();
        let ran = Scenario::new("waits", &words).run();
        ran.assert_code(misuse(&words));
        let told = format!("group {group} has no VM named \"n1\"\nhint: it has no VMs");
        assert!(ran.stderr.contains(&told), "{words:?}: {}", ran.stderr);
    }
    Scenario::new("waits", &["logs", "--group", &group]).run().assert_code(0);
    signal(&child, rustix::process::Signal::INT);
    scenario.wait(child).assert_code(exit_code::INTERRUPTED.into());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for words in [&["exec", "n1"][..], &["start"], &["wait", "n1", "--port", "x"], &["logs", "--grep", "("]] {
        let ran = Scenario::new("success", words).run();
        ran.assert_code(misuse(words));
        assert!(ran.stderr.starts_with("error: "), "{words:?}: {}", ran.stderr);
        assert!(ran.trace.is_empty(), "something ran");
    }
}
