//! Names and texts that are no lines.

use crate::support::Scenario;

#[test]
fn a_name_with_a_line_end_is_refused_before_anything_is_listed_or_run() {
    for args in [&["--list"][..], &["--list", "--format", "terse"], &["list"], &[], &["plan"]] {
        let ran = Scenario::new("line_end_in_a_name", args).run();
        ran.assert_code(2);
        assert!(ran.stdout.is_empty(), "{args:?}: {}", ran.stdout);
        assert!(ran.stderr.contains("has the character '\\n' in its name"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn what_a_test_says_is_safe_to_show_everywhere() {
    let ran = Scenario::new("noisy", &["--out", "logs"]).run();
    ran.assert_code(1);
    let logs = ran.dir.path().join("logs");
    let files = ["test.log", "log.jsonl", "results.json", "junit.xml", "trace.json", "report.html"];
    let read = |name: &&'static str| (*name, std::fs::read_to_string(logs.join(name)).expect("UTF-8"));
    let texts =
        files.iter().map(read).chain([("stdout", ran.stdout.clone()), ("stderr", ran.stderr.clone())]);
    for (name, text) in texts {
        let unsafe_ones = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{fffe}', '\r'];
        let found = text.chars().find(|character| unsafe_ones.contains(character));
        assert_eq!(found, None, "{name}: {text:.3000}");
        let longest = text.lines().map(str::len).max().unwrap_or_default();
        assert!(longest < 50_000 || name == "report.html", "{name} has a line of {longest} bytes");
    }
    let log = std::fs::read_to_string(logs.join("test.log")).expect("a log");
    assert!(log.contains("cleared \\u{202e}gnp.exe"), "{log:.3000}");
}

#[test]
fn a_run_of_nothing_at_once_is_refused() {
    for jobs in ["0", "-1", "many"] {
        let ran = Scenario::new("success", &["run", &format!("--jobs={jobs}")]).run();
        ran.assert_code(2);
        assert!(ran.stderr.contains("--jobs"), "{}", ran.stderr);
    }
}
