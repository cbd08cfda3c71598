//! Results as JUnit XML, for CI systems.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::row::Row;
use crate::summary::is_counted;
use crate::{Failure, Outcome, Summary};

/// The whole document.
pub(crate) fn render(summary: &Summary) -> Result<String, quick_junit::SerializeError> {
    let mut suite = TestSuite::new(summary.suite());
    // A setup that passed is no test; one that failed must not be missed.
    let is_shown = |row: &&Row| is_counted(row.kind) || matches!(row.outcome, Outcome::Failed(_));
    for row in summary.rows().iter().filter(is_shown) {
        suite.add_test_case(case(summary.suite(), row));
    }
    let mut report = Report::new(summary.suite());
    report.add_test_suite(suite);
    report.to_string()
}

fn case(suite: &str, row: &Row) -> TestCase {
    let mut case = TestCase::new(row.name.as_str(), status(row));
    case.set_classname(suite);
    case.set_time(Duration::try_from_secs_f64(row.seconds).unwrap_or_default());
    if !row.lines.is_empty() {
        case.set_system_out(row.lines.join("\n"));
    }
    case
}

fn status(row: &Row) -> TestCaseStatus {
    match &row.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped { reason } => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_message(reason.as_str());
            skipped
        }
        Outcome::Flaky { before, .. } => {
            let mut rerun = TestRerun::new(NonSuccessKind::Failure);
            rerun.set_message(before.to_string());
            let mut flaky = TestCaseStatus::success();
            flaky.add_rerun(rerun);
            flaky
        }
        Outcome::Failed(failure) => {
            let mut failed = TestCaseStatus::non_success(kind(failure));
            failed.set_message(failure.to_string());
            failed.set_description(row.lines.join("\n"));
            failed
        }
    }
}

/// An error is what the test did not say itself.
const fn kind(failure: &Failure) -> NonSuccessKind {
    match failure {
        Failure::Returned | Failure::Panicked | Failure::Rule { .. } => NonSuccessKind::Failure,
        Failure::Exited { .. }
        | Failure::Signal { .. }
        | Failure::TimedOut { .. }
        | Failure::Interrupted
        | Failure::Group { .. } => NonSuccessKind::Error,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    /// A summary with this text wherever there is one.
    fn all_over(text: &str) -> Summary {
        let mut summary = Summary::new(text);
        let outcomes = [
            Outcome::Passed,
            Outcome::Skipped { reason: text.to_owned() },
            Outcome::Failed(Failure::Rule { reason: text.to_owned() }),
            Outcome::Failed(Failure::Group { reason: text.to_owned() }),
            Outcome::Flaky { attempt: 2, before: Failure::Group { reason: text.to_owned() } },
        ];
        for outcome in outcomes {
            let lines = vec![text.to_owned(), text.to_owned()];
            summary.add(Row { lines, ..Row::new(text, Kind::Test, outcome) });
        }
        summary.add_warning(text.to_owned());
        summary
    }

    fn parses(summary: &Summary) -> Result<usize, String> {
        let xml = render(summary).map_err(|error| error.to_string())?;
        let document = roxmltree::Document::parse(&xml).map_err(|error| format!("{error}: {xml:.2000}"))?;
        Ok(document.descendants().filter(|node| node.has_tag_name("testcase")).count())
    }

    /// Each character of Unicode once, in every place where there is a text.
    #[test]
    fn the_document_parses_for_all_of_unicode() {
        let all: Vec<char> = (0..=u32::from(char::MAX)).filter_map(char::from_u32).collect();
        for piece in all.chunks(1 << 10) {
            let text: String = piece.iter().collect();
            assert_eq!(parses(&all_over(&text)), Ok(5), "{:?} to {:?}", piece.first(), piece.last());
        }
    }

    proptest! {
        #[test]
        fn the_document_parses_whatever_guests_and_tests_say(text in any::<String>()) {
            prop_assert_eq!(parses(&all_over(&text)), Ok(5));
            // As results that another program wrote, or changed.
            let read = Summary::parse(&serde_json::to_vec(&all_over(&text)).unwrap()).unwrap();
            prop_assert_eq!(parses(&read), Ok(5));
        }
    }

    #[test]
    fn tests_are_cases_and_what_guests_said_is_escaped() {
        let mut summary = Summary::new("etcd");
        summary.add(Row::new("setup", Kind::Setup, Outcome::Passed));
        summary.add(Row::new("a", Kind::Test, Outcome::Passed));
        let lines = vec!["<b> & \u{1b}[31m\u{0}".to_owned()];
        summary.add(Row { lines, ..Row::new("b", Kind::Test, Outcome::Failed(Failure::Returned)) });
        let overall = Failure::TimedOut { seconds: 3, overall: false };
        summary.add(Row::new("c", Kind::Teardown, Outcome::Failed(overall)));
        summary.add(Row::new("d", Kind::Test, Outcome::Skipped { reason: "no KVM".to_owned() }));
        summary.add(Row::new("e", Kind::Test, Outcome::Flaky { attempt: 2, before: Failure::Panicked }));
        let xml = render(&summary).unwrap();
        assert!(
            xml.contains(r#"<testsuite name="etcd" tests="5" disabled="1" errors="1" failures="1""#),
            "{xml}"
        );
        assert!(xml.contains("&lt;b&gt; &amp; "), "{xml}");
        assert!(!xml.contains('\u{0}') && !xml.contains('\u{1b}'), "{xml}");
        assert!(xml.contains("flakyFailure"), "{xml}");
        assert!(!xml.contains("setup"), "{xml}");
    }
}
