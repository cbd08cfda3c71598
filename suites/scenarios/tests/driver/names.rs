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
fn options_of_a_run_with_a_bad_value_are_refused_by_name() {
    for (option, value, said) in [
        // With none at once nothing would ever run.
        ("--jobs", "0", "--jobs"),
        ("--jobs", "-1", "--jobs"),
        ("--jobs", "many", "--jobs"),
        ("--forks", "0", "--forks"),
        ("--retries", "-1", "--retries"),
        ("--retries", "4294967296", "--retries"),
        ("--log-require", "(", "unclosed group"),
        ("--log-forbid", "[", "unclosed character class"),
        ("--engine", "kvm", "--engine"),
        ("--isolation", "none", "--isolation"),
        ("--broker-cpus", "0", "--broker-cpus"),
        ("--broker-memory-mib", "-1", "--broker-memory-mib"),
        ("--oversubscription", "0", "--oversubscription"),
        ("--group", "My Net", "My Net"),
    ] {
        let ran = Scenario::new("success", &["run", &format!("{option}={value}")]).run();
        ran.assert_code(2);
        assert!(ran.stderr.contains(said) && ran.trace.is_empty(), "{option}={value}: {}", ran.stderr);
    }
}
