//! The program as `cargo test` and nextest see it.

use crate::support::Scenario;

#[test]
fn tests_are_listed_as_nextest_asks_for_them() {
    let all = Scenario::new("skips", &["--list", "--format", "terse"]).run();
    all.assert_code(0);
    assert_eq!(all.stdout, "here: test\nday: test\nother: test\n");
    let ignored = Scenario::new("skips", &["--list", "--format", "terse", "--ignored"]).run();
    assert_eq!(ignored.stdout, "day: test\n");
    let nested = Scenario::new("nesting", &["--list", "--format", "terse"]).run();
    assert!(nested.stdout.contains("side::left::l1: test\n"), "{}", nested.stdout);
    let pretty = Scenario::new("success", &["--list"]).run();
    assert!(pretty.stdout.ends_with("\n2 tests, 0 benchmarks\n"), "{}", pretty.stdout);
}

#[test]
fn one_test_runs_by_its_exact_name_with_setup_and_teardown_around() {
    let ran = Scenario::new("success", &["first", "--exact", "--nocapture"]).run();
    ran.assert_code(0).assert_passed(&["first"]).assert_skipped("second", "filter");
    assert_eq!(ran.trace, ["setup", "first", "teardown"]);
}

#[test]
fn a_part_of_a_name_is_not_the_name() {
    Scenario::new("success", &["fir", "--exact"]).run().assert_code(2);
}
