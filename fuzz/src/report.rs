//! The report of a run, from files that anybody may have written.

use steading_logs::LogReader;
use steading_report::{Summary, render};

use crate::Target;

/// What stands between the results and the log.
const BETWEEN: &[u8] = b"\n---\n";

/// The target.
pub const TARGET: Target = Target {
    name: "report",
    check,
    seeds: &[
        b"{\"steading_results\":2,\"suite\":\"s\",\"functions\":[{\"name\":\"a\",\"kind\":\"test\",\"outcome\":\"passed\",\
          \"began\":\"2026-01-02T03:04:05Z\",\"seconds\":1.5},{\"name\":\"b\",\"kind\":\"setup\",\
          \"outcome\":{\"failed\":\"panicked\"},\"seconds\":0.1,\"lines\":[\"</script>\"]}],\
          \"metrics\":[{\"function\":\"a\",\"name\":\"m\",\"value\":1.0}],\"warnings\":[\"w\"]}\n---\n\
          {\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n\
          {\"time\":\"2026-01-02T03:04:06Z\",\"vm\":\"n1\",\"stream\":\"driver\",\"event\":{\"on\":{\"boot\":1}},\"message\":\"on\"}\n\
          {\"time\":\"2026-01-02T03:04:07Z\",\"vm\":\"n1\",\"stream\":\"console\",\"message\":\"</script><!--\"}\n",
        b"{\"steading_results\":2,\"suite\":\"\",\"functions\":[{\"name\":\"\",\"kind\":\"check\",\
          \"outcome\":{\"flaky\":{\"attempt\":2,\"before\":{\"exited\":{\"status\":3}}}},\"seconds\":0.0}],\
          \"metrics\":[],\"warnings\":[]}\n---\n",
        b"{\"steading_results\":2,\"suite\":\"s\",\"functions\":[{\"name\":\"a\",\"kind\":\"teardown\",\
          \"outcome\":{\"failed\":{\"timed_out\":{\"seconds\":9,\"overall\":true}}},\"seconds\":9.5},\
          {\"name\":\"c\",\"kind\":\"test\",\"outcome\":{\"skipped\":{\"reason\":\"r\"}},\"seconds\":0.0}],\
          \"metrics\":[],\"warnings\":[]}\n---\nno log\n",
        // Longer than any time, and a value that needs all its digits.
        b"{\"steading_results\":2,\"suite\":\"s\",\"functions\":[{\"name\":\"a\",\"kind\":\"test\",\"outcome\":\"passed\",\
          \"began\":\"2026-01-02T03:04:05Z\",\"seconds\":0.0},{\"name\":\"b\",\"kind\":\"test\",\"outcome\":\"passed\",\
          \"began\":\"2026-01-02T03:04:06Z\",\"seconds\":1e300}],\
          \"metrics\":[{\"function\":\"a\",\"name\":\"m\",\"value\":1.6666666666666666660}],\"warnings\":[]}\n---\n",
    ],
    words: &[
        "\n---\n",
        "\"began\":\"2026-01-02T03:04:05Z\",",
        "\"began\":\"9999-12-30T22:00:00.9Z\",",
        "-009999-01-02T01:59:59Z",
        "\"seconds\":",
        "1e300",
        "-1e300",
        "{\"failed\":{\"signal\":{\"signal\":6}}}",
        "</script>",
        "\\u0000",
        "\\ud83d\\ude00",
        "{\"time\":\"2026-01-02T03:04:06Z\",\"vm\":\"n1\",\"stream\":\"driver\",\"event\":\"paused\",\"message\":\"\"}\n",
    ],
};

/// Makes a report of the bytes.
pub fn check(bytes: &[u8]) {
    let at = bytes.windows(BETWEEN.len()).position(|part| part == BETWEEN).unwrap_or(bytes.len());
    let log = bytes.get(at + BETWEEN.len()..).unwrap_or_default();
    let Ok(summary) = Summary::parse(&bytes[..at]) else { return };
    let written = serde_json::to_vec(&summary).expect("a summary can be written");
    let again = Summary::parse(&written).expect("and read");
    assert_eq!(serde_json::to_vec(&again).expect("a summary can be written"), written);

    let Ok(rendered) = render(&summary, &mut LogReader::new(log), &[]) else { return };
    let without_data = render(&Summary::new(""), &mut LogReader::new(&[][..]), &[]).expect("an empty run");
    let ends = |page: &str| (page.matches("</script").count(), page.matches("<!--").count());
    assert_eq!(ends(&rendered.page), ends(&without_data.page), "something ends the page's script");
    assert!(!rendered.page.contains("{\"error\":\""), "the page has no data");
    serde_json::from_str::<serde_json::Value>(&rendered.trace).expect("the trace is JSON");
    let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(rendered.junit.chars().all(is_xml), "the XML has a character that XML cannot have");
}
