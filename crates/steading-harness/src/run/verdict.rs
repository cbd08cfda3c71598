//! What a run comes to: the rules of the suite, checked on what is written.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use regex::Regex;
use steading_api::chain;
use steading_logs::{LOG_FILE, LogReader};
use steading_report::{Failure, Kind, Outcome, Row, Summary};

use crate::suite::{LogRule, MetricRule, Rules};

/// Whether all patterns can be read, to be asked before anything starts.
pub(crate) fn check_patterns(rules: &Rules) -> anyhow::Result<()> {
    rules.log.iter().try_for_each(|rule| compiled(rule).map(|_| ()))
}

fn compiled(rule: &LogRule) -> anyhow::Result<Regex> {
    Regex::new(&rule.pattern).with_context(|| {
        format!("the pattern {:?} for the log is not a valid regular expression", rule.pattern)
    })
}

/// Checks every rule, on the log in this directory and on what was measured.
pub(crate) fn check(rules: &Rules, summary: &Summary, log_dir: &Utf8Path) -> Vec<(String, Outcome)> {
    let mut checked: Vec<_> =
        rules.metrics.iter().map(|rule| (rule.to_string(), metric(rule, summary))).collect();
    if rules.log.is_empty() {
        return checked;
    }
    let forks = summary.rows().iter().filter_map(|row| Some((row.name.as_str(), row.fork.as_ref()?)));
    let logs = forks.map(|(name, fork)| (Some(name), log_dir.join(fork).join(LOG_FILE)));
    let logs: Vec<_> = std::iter::once((None, log_dir.join(LOG_FILE))).chain(logs).collect();
    match log(&rules.log, &logs) {
        Ok(outcomes) => checked.extend(rules.log.iter().map(LogRule::to_string).zip(outcomes)),
        Err(error) => checked.push(("log".to_owned(), broken(chain(error.as_ref())))),
    }
    checked
}

fn broken(reason: String) -> Outcome {
    Outcome::Failed(Failure::Rule { reason })
}

fn metric(rule: &MetricRule, summary: &Summary) -> Outcome {
    let mut values = summary.metrics().iter().filter(|metric| metric.name == rule.name).peekable();
    if values.peek().is_none() {
        return broken("no test recorded a value".to_owned());
    }
    match values.find(|metric| !rule.allows(metric.value)) {
        Some(metric) => broken(format!("{} recorded {}", metric.function, metric.value)),
        None => Outcome::Passed,
    }
}

/// The outcomes of the rules, in their order, on several logs; those of forks with their functions.
fn log(rules: &[LogRule], logs: &[(Option<&str>, Utf8PathBuf)]) -> anyhow::Result<Vec<Outcome>> {
    let patterns: Vec<Regex> = rules.iter().map(compiled).collect::<Result<_, _>>()?;
    let mut found: Vec<Option<String>> = vec![None; rules.len()];
    let mut skipped = String::new();
    for (function, file) in logs {
        let mut reader = LogReader::open(file)?;
        while let Some(record) = reader.next_record().with_context(|| format!("cannot read {file}"))? {
            for (pattern, found) in patterns.iter().zip(&mut found) {
                if found.is_none() && pattern.is_match(&record.message) {
                    let source = record.vm.as_ref().map_or(record.stream.as_str(), |vm| vm.as_str());
                    let fork = function.map(|name| format!(" in the fork of {name}")).unwrap_or_default();
                    *found = Some(format!("{source} said{fork}: {}", record.message));
                }
            }
        }
        // What is asked for may have been in a line that is gone.
        if let Some(told) = reader.skipped().told() {
            skipped = format!("{skipped} ({told})");
        }
    }
    let judge = |(rule, found): (&LogRule, Option<String>)| match (rule.required, found) {
        (true, None) => broken(format!("no line of the log matches{skipped}")),
        (false, Some(line)) => broken(line),
        _ => Outcome::Passed,
    };
    Ok(rules.iter().zip(found).map(judge).collect())
}

/// The command that runs the first failed test again and keeps its testnet; after a failed setup,
/// the one that stays where it was left.
pub(crate) fn again(summary: &Summary) -> Option<String> {
    let program = std::env::args().next()?;
    let has_failed = |row: &&Row| matches!(row.outcome, Outcome::Failed(_));
    let failed = summary.rows().iter().find(has_failed)?;
    match failed.kind {
        Kind::Setup => Some(format!("{program} up")),
        Kind::Test => Some(format!("{program} run --keepalive --exact '{}'", failed.name)),
        Kind::Teardown | Kind::Check => None,
    }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use steading_report::Metric;

    use super::*;

    fn is_broken(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Failed(Failure::Rule { .. }))
    }

    #[test]
    fn a_forbidden_line_is_shown_with_who_said_it_and_a_required_one_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let records = "{\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n\
            {\"time\":\"2026-01-02T03:04:06Z\",\"vm\":\"a\",\"stream\":\"console\",\"message\":\"kernel: Oops: 1\"}\n\
            {\"mess";
        fs::write(dir.join(LOG_FILE), records).unwrap();
        let rules = Rules {
            log: vec![LogRule::forbid("Oops"), LogRule::require("Oops"), LogRule::require("Hello")],
            metrics: Vec::new(),
        };
        let outcomes = check(&rules, &Summary::new("s"), dir);
        let reason = "a said: kernel: Oops: 1".to_owned();
        assert_eq!(outcomes[0], ("log has no /Oops/".to_owned(), broken(reason)));
        assert_eq!(outcomes[1].1, Outcome::Passed);
        let reason = "no line of the log matches (the log ends in the midst of a line)".to_owned();
        assert_eq!(outcomes[2].1, broken(reason));
    }

    #[test]
    fn a_measured_value_must_exist_and_lie_in_its_range() {
        let mut summary = Summary::new("s");
        for value in [1.0, 9.0] {
            summary.add_metric(Metric { function: "t".to_owned(), name: "ms".to_owned(), value });
        }
        let check = |rule| metric(&rule, &summary);
        assert_eq!(check(MetricRule::new("ms", &(..=9.0))), Outcome::Passed);
        assert!(is_broken(&check(MetricRule::new("ms", &(..9.0)))));
        assert!(is_broken(&check(MetricRule::new("bytes", &(..)))));
    }

    #[test]
    fn a_pattern_that_is_none_is_told_before_anything_starts() {
        let rules = Rules { log: vec![LogRule::forbid("(")], metrics: Vec::new() };
        assert!(check_patterns(&rules).unwrap_err().to_string().contains("\"(\""));
    }
}
