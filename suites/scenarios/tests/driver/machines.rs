//! What the driver makes of machines, with simulated ones: waits end at once with their reason, and log, results
//! and report tell it.

use steading::exit_code;
use steading_testing::process::{assert_nothing_runs, wait_for_text};

use crate::support::{LIMIT, Ran, Scenario};

const PASSED: i32 = exit_code::PASSED as i32;
const FAILED: i32 = exit_code::FAILED as i32;
const HOST: i32 = exit_code::HOST as i32;

fn run(name: &str) -> Ran {
    let mut scenario = Scenario::new(name, &[]);
    scenario.command.env("STEADING_ENGINE", "simulated");
    scenario.run()
}

/// The text of its log, for people.
fn log(ran: &Ran) -> String {
    let logs = ran.results["log_dir"].as_str();
    let dir = logs.map_or_else(|| ran.dir.path().join("out"), Into::into);
    let mut found = Vec::new();
    let mut left = vec![dir];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory of logs").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_some_and(|name| name == "log.jsonl") {
                found.push(std::fs::read_to_string(path).expect("a log"));
            }
        }
    }
    assert_eq!(found.len(), 1, "one run has one log");
    found.remove(0)
}

#[test]
fn a_machine_boots_reboots_loses_power_is_paused_and_powers_off() {
    let ran = run("machines");
    ran.assert_code(PASSED).assert_passed(&["boots", "reboots", "loses_power", "is_paused", "powers_off"]);
    assert!(ran.stderr.contains("VM n1: it is on, boot 2"), "{}", ran.stderr);
    let log = log(&ran);
    assert!(log.contains("Linux version 6.1"), "{log}");
}

#[test]
fn a_wait_ends_at_once_when_the_kernel_panics_or_the_machine_ends() {
    for (name, why) in [
        ("machine_panics", "its kernel panicked"),
        ("machine_dies", "its machine ended unexpectedly (status 3): the script says so"),
        ("machine_powers_off", "the guest powered off"),
    ] {
        let ran = run(name);
        ran.assert_code(FAILED);
        assert_eq!(ran.failure("waits"), "returned", "{name}");
        assert!(ran.stdout.contains(why), "{name}: {}", ran.stdout);
    }
    run("machine_panics").assert_passed(&["after"]);
}

#[test]
fn a_guest_that_resets_itself_is_in_its_next_boot() {
    run("machine_resets").assert_code(PASSED).assert_passed(&["resets"]);
}

#[test]
fn a_power_button_that_was_missed_is_pressed_again() {
    run("machine_misses_the_button").assert_code(PASSED).assert_passed(&["powers_off"]);
}

#[test]
fn a_script_that_makes_no_sense_is_refused_before_there_is_a_group() {
    let ran = run("machine_makes_no_sense");
    ran.assert_code(HOST);
    assert!(ran.stderr.contains("line 2 of its script: unknown step"), "{}", ran.stderr);
}

#[test]
fn a_group_of_a_hundred_comes_up_and_names_the_one_that_panicked() {
    let ran = run("many_machines");
    ran.assert_code(PASSED).assert_passed(&["all_boot", "one_has_panicked"]);
    assert!(ran.stderr.contains("VM n100: kernel panic on its console"), "{}", ran.stderr);
}

#[test]
fn a_driver_of_machines_that_is_killed_leaves_nothing() {
    let mut scenario = Scenario::new("machine_panics", &["up"]);
    scenario.command.env("STEADING_ENGINE", "simulated");
    let mut child = scenario.command.spawn().expect("the program starts");
    wait_for_text(&child, &scenario.dir.path().join("stderr"), "kernel panic on its console", LIMIT);
    child.kill().expect("it runs");
    child.wait().expect("its end");
    assert_nothing_runs(&format!("SCENARIO_DIR={}", scenario.dir.path().display()), child.id());
}
