//! Each way in which a function may end, and what it means for the run.

use steading::exit_code;

use crate::support::Scenario;

const PASSED: i32 = exit_code::PASSED as i32;
const FAILED: i32 = exit_code::FAILED as i32;
const USAGE: i32 = exit_code::USAGE as i32;
const SETUP_FAILED: i32 = exit_code::SETUP_FAILED as i32;
const FLAKY: i32 = exit_code::FLAKY as i32;

#[test]
fn a_suite_that_succeeds_runs_in_order_and_ends_with_status_0() {
    let ran = Scenario::new("success", &[]).run();
    ran.assert_code(PASSED).assert_passed(&["setup", "first", "second", "teardown"]);
    assert_eq!(ran.trace, ["setup", "first", "second", "teardown"]);
    assert_eq!(ran.verdict(), "2 passed, 0 failed, 0 skipped");
}

#[test]
fn each_way_to_end_is_told_and_none_stops_the_others() {
    let ran = Scenario::new("endings", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["passes", "passes_after_all_that"]);
    assert_eq!(ran.failure("returns_an_error"), "returned");
    assert_eq!(ran.failure("panics"), "panicked");
    assert_eq!(ran.failure("aborts")["signal"]["signal"], 6);
    let overflow = ran.failure("overflows_its_stack")["signal"]["signal"].as_i64();
    assert!(matches!(overflow, Some(6 | 11)), "{overflow:?}");
    assert_eq!(ran.failure("exits_in_the_middle")["exited"]["status"], 0);
    assert_eq!(ran.failure("is_killed")["signal"]["signal"], 9);
    assert!(ran.stdout.contains("the cluster is not healthy"), "{}", ran.stdout);
    assert!(ran.stdout.contains("index out of nowhere"), "{}", ran.stdout);
    assert!(ran.stdout.contains(" run --keepalive --exact 'returns_an_error'"), "{}", ran.stdout);
    assert_eq!(ran.verdict(), "2 passed, 6 failed, 0 skipped");
}

#[test]
fn a_test_that_hangs_is_ended_at_its_limit_and_the_next_one_runs() {
    let ran = Scenario::new("hang", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["after"]);
    assert_eq!(ran.failure("hangs")["timed_out"]["seconds"], 1);
    assert_eq!(ran.failure("hangs")["timed_out"]["overall"], false);
}

#[test]
fn a_test_has_a_limit_of_its_own() {
    let ran = Scenario::new("own_limit", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["after"]);
    assert_eq!(ran.failure("hangs")["timed_out"]["seconds"], 1);
}

#[test]
fn a_setup_that_fails_in_any_way_skips_all_tests_with_that_reason() {
    for (name, said) in
        [("setup_panics", "no etcd here"), ("setup_fails", "no etcd here"), ("setup_hangs", "limit of 1 s")]
    {
        let ran = Scenario::new(name, &[]).run();
        ran.assert_code(SETUP_FAILED);
        ran.failure("setup");
        ran.assert_skipped("test", "setup failed").assert_skipped("more::inside", "setup failed");
        assert!(ran.stdout.contains(said), "{name}: {}", ran.stdout);
        assert_eq!(ran.verdict(), "0 passed, 1 failed, 2 skipped");
    }
}

#[test]
fn a_sections_setup_that_fails_costs_its_section_only() {
    let ran = Scenario::new("setup_of_section_fails", &[]).run();
    ran.assert_code(SETUP_FAILED).assert_passed(&["outside", "broken::teardown"]);
    ran.assert_skipped("broken::inside", "setup failed");
    assert_eq!(ran.trace, ["inner teardown"]);
}

#[test]
fn a_teardown_that_fails_fails_the_run() {
    let ran = Scenario::new("teardown_fails", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["test"]);
    assert_eq!(ran.failure("teardown"), "returned");
}

#[test]
fn the_limit_of_the_whole_run_ends_a_setup_and_teardowns_still_run() {
    let ran = Scenario::new("overall_in_setup", &[]).run();
    ran.assert_code(SETUP_FAILED).assert_passed(&["teardown"]);
    assert_eq!(ran.failure("setup")["timed_out"]["overall"], true);
    ran.assert_skipped("test", "setup failed");
}

#[test]
fn the_limit_of_the_whole_run_ends_a_test_and_skips_the_rest() {
    let ran = Scenario::new("overall_in_test", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["teardown"]);
    assert_eq!(ran.failure("hangs")["timed_out"]["overall"], true);
    ran.assert_skipped("after", "the time limit of the whole run (1 s) is reached");
    assert_eq!(ran.trace, ["teardown"]);
}

#[test]
fn two_functions_of_one_name_are_refused_before_anything_starts() {
    let ran = Scenario::new("duplicate", &[]).run();
    ran.assert_code(USAGE);
    assert!(ran.stderr.contains("two functions of the suite are named \"same\""), "{}", ran.stderr);
    assert!(ran.results.is_null());
}

#[test]
fn a_child_that_outlives_its_test_is_ended_and_named() {
    let ran = Scenario::new("orphan", &[]).run();
    ran.assert_code(PASSED).assert_passed(&["leaves", "after"]);
    // It may not have come so far as to be called sleep.
    let line = ran.stderr.lines().find(|line| line.contains("leaves had left running, now ended: "));
    assert!(line.is_some_and(|line| line.contains("sleep 1000")), "{}", ran.stderr);
}

#[test]
fn a_test_that_passes_at_a_later_attempt_is_flaky_and_the_exit_status_says_so() {
    let ran = Scenario::new("flaky", &[]).run();
    ran.assert_code(FLAKY);
    assert_eq!(ran.outcome("at_last")["flaky"]["attempt"], 2);
    assert_eq!(ran.verdict(), "0 passed, 0 failed, 0 skipped, 1 flaky");
}

#[test]
fn a_test_that_fails_at_each_attempt_has_failed() {
    let ran = Scenario::new("never", &[]).run();
    ran.assert_code(FAILED);
    assert_eq!(ran.stderr.matches("attempt").count(), 2, "{}", ran.stderr);
    assert_eq!(ran.failure("never"), "returned");
}

#[test]
fn retries_of_the_command_line_make_up_for_those_not_declared() {
    let ran = Scenario::new("hang", &["after", "--retries", "1"]).run();
    ran.assert_code(PASSED).assert_skipped("hangs", "filter");
    let ran = Scenario::new("teardown_fails", &["--retries", "1"]).run();
    assert!(!ran.stderr.contains("attempt"), "teardowns are not tried again: {}", ran.stderr);
}

#[test]
fn a_skip_has_a_reason_wherever_it_comes_from() {
    let ran = Scenario::new("skips", &["--skip", "other"]).run();
    ran.assert_code(PASSED);
    ran.assert_skipped("here", "this group has no VM");
    ran.assert_skipped("day", "takes a day");
    ran.assert_skipped("other", "--skip");
    let ran = Scenario::new("skips", &["--include-ignored", "day"]).run();
    ran.assert_code(PASSED).assert_passed(&["day"]);
}

#[test]
fn a_filter_that_selects_nothing_is_a_mistake() {
    let ran = Scenario::new("success", &["no_such_test"]).run();
    ran.assert_code(USAGE);
    assert!(ran.stderr.contains("no test matches no_such_test"), "{}", ran.stderr);
    assert!(ran.trace.is_empty());
}

#[test]
fn rules_for_log_and_measurements_are_checked_at_the_end() {
    let ran = Scenario::new("rules", &[]).run();
    ran.assert_code(FAILED).assert_passed(&["measures"]);
    let forbidden = ran.failure("log has no /disk is on fire/")["rule"]["reason"].as_str();
    assert!(forbidden.is_some_and(|reason| reason.contains("the disk is on fire")), "{forbidden:?}");
    ran.failure("log has /all is well/");
    assert_eq!(ran.failure("latency_ms < 10")["rule"]["reason"], "measures recorded 12.5");
    assert_eq!(ran.results["metrics"][0]["value"], 12.5);
    let kept = Scenario::new("rules_kept", &[]).run();
    kept.assert_code(PASSED);
    assert_eq!(kept.verdict(), "4 passed, 0 failed, 0 skipped");
}
