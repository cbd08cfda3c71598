//! What functions print, and what becomes of it when there is too much, or no place for it.

use std::process::Stdio;

use crate::support::Scenario;

#[test]
fn a_flood_of_a_gigabyte_is_cut_and_its_end_is_kept() {
    let ran = Scenario::new("flood", &[]).run();
    ran.assert_code(0).assert_passed(&["floods", "after"]);
    let size = std::fs::metadata(ran.dir.path().join("stderr")).expect("its output").len();
    assert!(size < 64 << 20, "{size} bytes of output");
    assert!(ran.stderr.contains("bytes of output are left out here"));
    assert!(ran.stderr.contains("the flood is over"));
}

#[test]
fn output_that_is_no_utf8_is_shown_with_replacement_characters() {
    let ran = Scenario::new("invalid_utf8", &[]).run();
    ran.assert_code(0);
    assert!(ran.stderr.contains("before \u{fffd}\u{fffd}"), "{}", ran.stderr);
    assert!(ran.stderr.contains("last without an end"), "{}", ran.stderr);
}

#[test]
fn a_closed_stdout_costs_the_output_and_nothing_else() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut scenario = Scenario::new("closed_stdout", &[]);
    scenario.command.stdout(Stdio::from(writer.try_clone().expect("a copy"))).stderr(Stdio::from(writer));
    scenario.run().assert_code(0).assert_passed(&["speaks"]);
}

#[test]
fn no_disk_left_for_logs_costs_the_log_and_not_the_tests() {
    // /dev/full takes nothing (full(4)).
    let scenario = Scenario::new("success", &["--out", "logs"]);
    let logs = scenario.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("a directory");
    for name in ["log.jsonl", "test.log"] {
        std::os::unix::fs::symlink("/dev/full", logs.join(name)).expect("a link");
    }
    let ran = scenario.run();
    ran.assert_code(0).assert_passed(&["first", "second"]);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
}
