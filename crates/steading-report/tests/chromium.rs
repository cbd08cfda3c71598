//! The page in a real Chromium: what it shows, filters and does not run.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::fmt::Write as _;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use steading_report::{Failure, Kind, Outcome, Row, Summary};
use tempfile::TempDir;

/// Debian's name for it.
const CHROMIUM: &str = "chromium";

/// What a guest might print to break out of the page.
const HOSTILE: &str = "</script><script>document.title = 'broken'</script><img src=x onerror=alert(1)>";

/// The directory of a run with two VMs, one of them paused, a failure, and a hostile line.
fn run() -> (TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    let time = |second: u32| format!("2026-01-31T12:00:{second:02}Z");
    let mut log = "{\"steading_log\":1,\"begun\":\"2026-01-31T12:00:00Z\"}\n".to_owned();
    let mut record = |second: u32, vm: &str, more: &str, message: &str| {
        let message = serde_json::to_string(message).unwrap();
        writeln!(log, "{{\"time\":\"{}\",\"vm\":\"{vm}\",{more},\"message\":{message}}}", time(second))
            .unwrap();
    };
    let driver = "\"stream\":\"driver\"";
    record(0, "n1", &format!("{driver},\"event\":{{\"on\":{{\"boot\":1}}}}"), "it is on, boot 1");
    record(1, "n2", &format!("{driver},\"event\":{{\"on\":{{\"boot\":1}}}}"), "it is on, boot 1");
    record(3, "n2", &format!("{driver},\"event\":\"answering\""), "it answers");
    record(5, "n2", &format!("{driver},\"event\":\"paused\""), "paused");
    for second in 2..40 {
        record(second, "n1", "\"stream\":\"console\"", &format!("line {second} of the console"));
    }
    record(41, "n2", "\"stream\":\"journal\",\"priority\":3", HOSTILE);
    std::fs::write(path.join("log.jsonl"), log).unwrap();
    let mut summary = Summary::new("demo");
    let began = |second| Some(time(second).parse().unwrap());
    summary.add(Row { began: began(3), seconds: 4.0, ..Row::new("first", Kind::Test, Outcome::Passed) });
    summary.add(Row {
        began: began(7),
        seconds: 30.0,
        lines: vec!["it said <b>this</b> last".to_owned()],
        ..Row::new("second", Kind::Test, Outcome::Failed(Failure::Panicked))
    });
    summary.add(Row::new("third", Kind::Test, Outcome::Skipped { reason: "no KVM".to_owned() }));
    let before = Failure::TimedOut { seconds: 9, overall: false };
    summary.add(Row::new("fourth", Kind::Test, Outcome::Flaky { attempt: 2, before }));
    summary.add(Row::new("log has no /x/", Kind::Check, Outcome::Failed(Failure::Signal { signal: 9 })));
    summary.write(&path).unwrap();
    steading_report::write(&path).unwrap();
    (dir, path)
}

/// The page's elements once its script has run.
fn shown(dir: &Utf8Path, hash: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(CHROMIUM)
        // Its own sandbox needs more than a test's sandbox gives; the page is ours, and offline.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{dir}/report.html{hash}"))
        .env("HOME", profile.path())
        .output()
        .expect("chromium is installed (cargo xtask setup does that)");
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(page.contains("data-ready=\"yes\""), "the script did not end: {page:.2000}");
    // What is behind the data is what the script made or left.
    let (before, after) = page.split_once("<script type=\"application/json\"").unwrap();
    format!("{before}{}", after.split_once("</script>").unwrap().1)
}

#[test]
fn failures_come_first_and_each_lane_has_its_spans() {
    let (_dir, path) = run();
    let page = shown(&path, "");
    let (failure, timeline) = (page.find("panicked").unwrap(), page.find("Timeline").unwrap());
    assert!(failure < timeline);
    assert!(page.contains("it said &lt;b&gt;this&lt;/b&gt; last"), "{page:.3000}");
    for class in ["span passed", "span failed", "span booting", "span on", "span paused"] {
        assert!(page.contains(&format!("class=\"{class}\"")), "{class}");
    }
    assert!(page.contains("<title>demo: 1 passed, 2 failed, 1 flaky, 1 skipped</title>"));
}

#[test]
fn the_log_is_filtered_by_what_stands_in_the_address() {
    let (_dir, path) = run();
    assert!(shown(&path, "").contains("43 of 43 records"));
    assert!(shown(&path, "#vm=n2").contains("4 of 43 records"));
    assert!(shown(&path, "#stream=console&q=%2Fline%20[12]%5Cd%20%2F").contains("20 of 43 records"));
    assert!(shown(&path, "#from=39").contains("2 of 43 records"));
}

#[test]
fn what_a_guest_prints_is_text_whatever_it_is() {
    let (_dir, path) = run();
    let page = shown(&path, "#vm=n2&stream=journal");
    assert!(!page.contains("<title>broken"), "{page:.1000}");
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;"), "{page:.3000}");
    assert!(!page.contains("<img"), "{page:.3000}");
}

#[test]
fn the_xml_is_valid_and_the_trace_well_formed() {
    let (_dir, path) = run();
    let grammar = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/junit.rng");
    let grammar = std::env::var("CARGO_MANIFEST_DIR").map_or(grammar.into(), |dir| dir + "/tests/junit.rng");
    let checked = Command::new("xmllint")
        .args(["--noout", "--relaxng", &grammar, "junit.xml"])
        .current_dir(&path)
        .output();
    let checked = checked.expect("xmllint is installed (cargo xtask setup does that)");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let trace: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path.join("trace.json")).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 6));
}
