//! What runs side by side, what one after the other.

use crate::support::Scenario;

#[test]
fn parallel_tests_limited_to_one_never_meet() {
    let ran = Scenario::new("parallel_1", &[]).run();
    ran.assert_code(0).assert_passed(&["all::a", "all::b", "all::c"]);
    assert_eq!(ran.trace, ["a", "b", "c"]);
}

#[test]
fn two_parallel_tests_run_at_once() {
    Scenario::new("parallel_2", &[]).meeting(2).run().assert_code(0).assert_passed(&["all::m0", "all::m1"]);
}

#[test]
fn three_parallel_tests_run_at_once() {
    Scenario::new("parallel_3", &[])
        .meeting(3)
        .run()
        .assert_code(0)
        .assert_passed(&["all::m0", "all::m1", "all::m2"]);
}

#[test]
fn jobs_limit_what_runs_at_once() {
    // It could not pass: the first waits for the others.
    let ran = Scenario::new("parallel_1", &["--jobs", "1"]).run();
    ran.assert_code(0);
    assert_eq!(ran.trace, ["a", "b", "c"]);
}

#[test]
fn sections_nest_and_a_failure_in_the_middle_stops_nobody() {
    let ran = Scenario::new("nesting", &[]).run();
    ran.assert_code(1);
    ran.assert_passed(&["first", "side::left::l1", "side::left::l3", "side::right::r2", "last"]);
    assert_eq!(ran.failure("side::left::l2"), "returned");
    let at =
        |line: &str| ran.trace.iter().position(|found| found == line).unwrap_or_else(|| panic!("no {line}"));
    assert_eq!((at("setup"), at("first")), (0, 1));
    for pair in ["left setup", "l1", "l3", "left teardown", "last", "teardown"].windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{:?}", ran.trace);
    }
    assert!(at("r1") < at("r2") && at("r2") < at("last"), "{:?}", ran.trace);
}

#[test]
fn a_filter_runs_the_setups_around_what_it_selects_and_no_others() {
    let ran = Scenario::new("nesting", &["r1"]).run();
    ran.assert_code(0).assert_skipped("side::left::l1", "filter");
    assert_eq!(ran.trace, ["setup", "r1", "teardown"]);
}

#[test]
fn after_the_first_failure_nothing_begins_if_so_asked() {
    let ran = Scenario::new("endings", &["--fail-fast"]).run();
    ran.assert_code(1).assert_skipped("panics", "--fail-fast");
}

#[test]
fn two_suites_in_one_working_directory_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut runs: Vec<_> = ["success", "parallel_3"]
        .into_iter()
        .map(|name| {
            let mut scenario = Scenario::new(name, &[]).meeting(3);
            scenario.command.current_dir(&dir);
            let child = scenario.command.spawn().expect("it starts");
            (scenario, child)
        })
        .collect();
    for (scenario, child) in runs.drain(..) {
        scenario.wait(child).assert_code(0);
    }
    let logs = std::fs::read_dir(dir.path().join("out")).expect("logs").count();
    assert_eq!(logs, 2);
}
