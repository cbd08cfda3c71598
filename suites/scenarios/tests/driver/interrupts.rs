//! Signals to the driver, and deaths of what it relies on.

use std::time::Duration;

use rustix::process::Signal;
use steading::exit_code;
use steading_testing::process::{ends_within, signal};

use crate::support::{Scenario, program, wait_for_line};

const INTERRUPTED: i32 = exit_code::INTERRUPTED as i32;

#[test]
fn the_first_interrupt_ends_what_runs_and_tears_down() {
    for kind in [Signal::INT, Signal::TERM] {
        let mut scenario = Scenario::new("waits", &[]);
        let child = scenario.command.spawn().expect("it starts");
        wait_for_line(&child, &scenario, "trace", "waiting");
        signal(&child, kind);
        let ran = scenario.wait(child);
        ran.assert_code(INTERRUPTED).assert_passed(&["teardown"]);
        assert_eq!(ran.failure("waits"), "interrupted");
        ran.assert_skipped("after", "interrupted");
        assert_eq!(ran.trace, ["waiting", "teardown"]);
    }
}

#[test]
fn a_function_that_is_interrupted_or_late_was_killed_at_once_with_what_it_ran() {
    for (name, is_interrupted) in [("reports", true), ("reports_late", false)] {
        let mut scenario = Scenario::new(name, &[]);
        let child = scenario.command.spawn().expect("it starts");
        wait_for_line(&child, &scenario, "trace", "at work");
        if is_interrupted {
            signal(&child, Signal::INT);
        }
        let ran = scenario.wait(child);
        assert_eq!(ran.trace, ["at work", "report"]);
        ran.assert_code(if is_interrupted { INTERRUPTED } else { 1 });
        ran.failure("reports");
    }
}

#[test]
fn the_second_interrupt_ends_everything_at_once() {
    let mut scenario = Scenario::new("slow_teardown", &[]);
    let child = scenario.command.spawn().expect("it starts");
    wait_for_line(&child, &scenario, "trace", "tearing down");
    signal(&child, Signal::INT);
    wait_for_line(&child, &scenario, "stderr", "interrupted: ending");
    // Signals of one sender within a second are one request: timeout(1) sends two.
    assert!(!ends_within(&child, Duration::from_millis(1100)), "one signal was enough");
    signal(&child, Signal::INT);
    let ran = scenario.wait(child);
    ran.assert_code(INTERRUPTED).assert_passed(&["test"]);
    ran.failure("teardown");
}

#[test]
fn a_request_for_what_runs_is_answered_and_disturbs_nothing() {
    let mut scenario = Scenario::new("waits", &[]);
    let child = scenario.command.spawn().expect("it starts");
    wait_for_line(&child, &scenario, "trace", "waiting");
    signal(&child, Signal::USR1);
    wait_for_line(&child, &scenario, "stderr", "waits has run for");
    signal(&child, Signal::INT);
    scenario.wait(child).assert_code(INTERRUPTED);
}

#[test]
fn a_testnet_that_is_kept_alive_is_torn_down_when_it_is_enough() {
    for (args, first) in [(["--keepalive"].as_slice(), "second"), (&["up"], "setup")] {
        let mut scenario = Scenario::new("success", args);
        let child = scenario.command.spawn().expect("it starts");
        wait_for_line(&child, &scenario, "trace", first);
        wait_for_line(&child, &scenario, "stderr", "the testnet is up");
        signal(&child, Signal::INT);
        let ran = scenario.wait(child);
        ran.assert_code(0);
        assert_eq!(ran.trace.last().map(String::as_str), Some("teardown"));
        assert_eq!(ran.trace.contains(&"first".to_owned()), first == "second");
    }
}

#[test]
fn a_driver_that_is_killed_takes_its_functions_along() {
    let mut scenario = Scenario::new("waits", &[]);
    let mut child = scenario.command.spawn().expect("it starts");
    wait_for_line(&child, &scenario, "trace", "waiting");
    child.kill().expect("it runs");
    let ran = scenario.wait(child);
    assert_eq!(ran.status.code(), None);
}

#[test]
fn an_owner_that_is_killed_fails_what_runs_and_is_told() {
    let mut scenario = Scenario::new("waits", &[]);
    let child = scenario.command.spawn().expect("it starts");
    wait_for_line(&child, &scenario, "trace", "waiting");
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).expect("children");
    let owner = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    let owner = owner.and_then(rustix::process::Pid::from_raw).expect("an owner");
    rustix::process::kill_process(owner, Signal::KILL).expect("it runs");
    let ran = scenario.wait(child);
    ran.assert_code(1).assert_skipped("after", "the group has ended");
    let reason = ran.failure("waits")["group"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("the group has ended"), "{reason}");
}

#[test]
fn a_program_that_is_built_anew_while_it_runs_goes_on_as_it_was() {
    let mut scenario = Scenario::new("replaced", &[]);
    let copy = scenario.dir.path().join("program");
    std::fs::copy(program(), &copy).expect("a copy");
    scenario.replace_program(&copy);
    let child = scenario.command.spawn().expect("it starts");
    wait_for_line(&child, &scenario, "trace", "first");
    std::fs::remove_file(&copy).expect("it is there");
    std::fs::write(scenario.dir.path().join("removed"), "").expect("a sign");
    scenario.wait(child).assert_code(0).assert_passed(&["waits", "second"]);
}
