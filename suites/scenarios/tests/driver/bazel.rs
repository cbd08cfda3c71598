//! The program as Bazel runs it.

use std::path::PathBuf;

use rustix::process::Signal;
use steading_testing::process::signal_to;

use crate::support::{Scenario, wait_for_line};

/// A scenario in an environment as Bazel makes it, with the paths of its XML and of the file of a premature exit.
fn under_bazel(name: &str, variables: &[(&str, &str)]) -> (Scenario, PathBuf, PathBuf) {
    let mut scenario = Scenario::new(name, &[]);
    let (xml, unended) = (scenario.dir.path().join("test.xml"), scenario.dir.path().join("unended"));
    scenario.command.env("TEST_SRCDIR", "/runfiles").env("XML_OUTPUT_FILE", &xml);
    scenario.command.env("TEST_PREMATURE_EXIT_FILE", &unended).envs(variables.iter().copied());
    (scenario, xml, unended)
}

#[test]
fn a_filter_that_matches_no_test_passes_with_all_skipped_and_without_a_testnet() {
    let (scenario, xml, unended) = under_bazel("success", &[("TESTBRIDGE_TEST_ONLY", "of_another_target")]);
    let ran = scenario.run();
    ran.assert_code(0).assert_skipped("first", "filter").assert_skipped("second", "filter");
    assert_eq!(ran.verdict(), "0 passed, 0 failed, 2 skipped");
    assert!(ran.trace.is_empty(), "{:?}", ran.trace);
    let xml = std::fs::read_to_string(xml).expect("an XML file");
    assert_eq!(xml.matches("<skipped").count(), 2, "{xml}");
    assert!(!unended.exists());
    // A person who misspells a name must hear of it.
    Scenario::new("success", &["of_another_target"]).run().assert_code(2);
}

#[test]
fn the_file_of_a_premature_exit_goes_with_the_orderly_end_of_a_run_only() {
    for (name, code) in [("success", 0), ("endings", 1)] {
        let (scenario, _, unended) = under_bazel(name, &[]);
        scenario.run().assert_code(code);
        assert!(!unended.exists(), "{name}");
    }
    let (mut scenario, _, unended) = under_bazel("waits", &[]);
    let child = scenario.command.spawn().expect("the program starts");
    wait_for_line(&child, &scenario, "trace", "waiting");
    assert!(unended.exists(), "while it runs");
    signal_to(child.id(), Signal::KILL);
    let ran = scenario.wait(child);
    assert!(unended.exists(), "{:?}", ran.status);
}

#[test]
fn a_variable_that_cannot_be_understood_ends_the_program_by_its_name() {
    for (variable, value) in [
        ("STEADING_TIMEOUT_FACTOR", "abc"),
        ("STEADING_TIMEOUT_FACTOR", "0"),
        ("STEADING_ACCEL", "kvmm"),
        ("TEST_TIMEOUT", "soon"),
        ("TEST_TOTAL_SHARDS", "-1"),
        ("TESTBRIDGE_TEST_RUNNER_FAIL_FAST", "yes"),
    ] {
        let (scenario, _, unended) = under_bazel("success", &[(variable, value)]);
        let ran = scenario.run();
        ran.assert_code(2);
        assert!(ran.stderr.contains(&format!("{variable} is \"{value}\": expected ")), "{}", ran.stderr);
        assert!(ran.trace.is_empty() && !unended.exists(), "{:?}", ran.trace);
    }
}
