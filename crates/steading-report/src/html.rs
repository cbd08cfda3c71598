//! A run as one page: failures, timeline, log.

use serde::Serialize;
use steading_logs::Record;

use crate::log::LogView;
use crate::row::Row;
use crate::timeline::Timeline;
use crate::{Metric, Summary};

const PAGE: &str = include_str!("report.html");

/// Where the data go in the page.
const PLACE: &str = "/*DATA*/";

#[derive(Serialize)]
struct Data<'a> {
    suite: &'a str,
    counts: [(&'static str, usize); 4],
    rows: Vec<ShownRow<'a>>,
    metrics: &'a [Metric],
    warnings: Vec<&'a str>,
    timeline: &'a Timeline,
    /// Names, and PNG files in base64.
    pictures: &'a [(String, String)],
    /// How many records at the beginning are left out.
    left_out: usize,
    records: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct ShownRow<'a> {
    name: &'a str,
    class: &'static str,
    detail: String,
    seconds: f64,
    lines: &'a [String],
    /// Where the page of its fork is.
    fork: Option<String>,
}

/// Milliseconds from the beginning, source, stream, priority, text.
#[derive(Serialize)]
struct Line<'a>(i64, &'a str, &'static str, Option<u8>, String);

/// The page.
pub(crate) fn render(
    summary: &Summary,
    timeline: &Timeline,
    log: &LogView,
    pictures: &[(String, String)],
) -> String {
    let skipped = log.skipped.told();
    let data = Data {
        suite: summary.suite(),
        counts: [
            ("passed", summary.passed()),
            ("failed", summary.failed()),
            ("flaky", summary.flaky()),
            ("skipped", summary.skipped()),
        ],
        rows: summary.rows().iter().map(shown).collect(),
        metrics: summary.metrics(),
        warnings: summary.warnings().iter().chain(&skipped).map(String::as_str).collect(),
        timeline,
        pictures,
        left_out: log.left_out,
        records: log.records.iter().map(|record| line(record, timeline)).collect(),
    };
    let json = serde_json::to_string(&data).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    PAGE.replacen(PLACE, &harmless(&json), 1)
}

/// JSON that stands in a script: nothing in it ends the script or begins a comment (HTML Standard,
/// 4.12.1.3). In JSON `<` occurs in strings only.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn shown(row: &Row) -> ShownRow<'_> {
    let (class, detail) = row.outcome.class_and_detail();
    let fork = row.fork.as_ref().map(|dir| format!("{dir}/report.html"));
    ShownRow { name: &row.name, class, detail, seconds: row.seconds, lines: &row.lines, fork }
}

fn line<'a>(record: &'a Record, timeline: &Timeline) -> Line<'a> {
    let millis = record.time.as_millisecond() - timeline.began.as_millisecond();
    let source = record.vm.as_ref().map_or(crate::timeline::DRIVER, |vm| vm.as_str());
    Line(millis, source, record.stream.as_str(), record.priority, record.said())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_guest_says_ends_the_script() {
        let said = harmless(r#"{"a":"</script><!--"}"#);
        assert!(!said.contains('<'), "{said}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["a"], "</script><!--");
    }

    #[test]
    fn the_page_has_one_place_for_its_data() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
    }
}
