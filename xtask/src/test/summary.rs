//! The end of a test run: a line for each part, what failed by name, and the counts, last.

use std::{fmt::Write as _, time::Duration};

use super::libtest::Counts;
use crate::error;

/// How one executable or suite went.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) counts: Counts,
    /// Names of tests, or what is wrong with the whole.
    pub(super) failures: Vec<String>,
    pub(super) took: Duration,
}

impl Outcome {
    /// One that could not run.
    pub(super) fn broken(name: &str, why: impl Into<String>) -> Outcome {
        Outcome {
            name: name.to_owned(),
            counts: Counts { failed: 1, ..Counts::default() },
            failures: vec![why.into()],
            took: Duration::ZERO,
        }
    }
}

/// How all parts went.
#[derive(Default)]
pub(super) struct Summary {
    /// The name of each check, and why it failed if it did.
    checks: Vec<(String, Option<String>)>,
    outcomes: Vec<Outcome>,
}

impl Summary {
    /// Notes how a check went, at once telling why it failed; passes on what it gave.
    pub(super) fn check<T>(&mut self, name: &str, result: anyhow::Result<T>) -> Option<T> {
        let (given, failure) = match result {
            Ok(given) => (Some(given), None),
            Err(error) => {
                error::print(&error);
                (None, Some(format!("{error:#}")))
            }
        };
        self.checks.push((name.to_owned(), failure));
        given
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// The tests counted, and each check that failed as one failure: a run that fails says so in
    /// its last line.
    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for outcome in &self.outcomes {
            sum += outcome.counts;
        }
        sum.failed += self.checks.iter().filter(|(_, failure)| failure.is_some()).count();
        sum
    }

    pub(super) fn passed(&self) -> bool {
        self.counts().failed == 0
    }

    pub(super) fn render(&self, took: Duration) -> String {
        let mut text = String::from("\n=== summary\n");
        for (name, failure) in &self.checks {
            let word = if failure.is_some() { "FAILED" } else { "ok" };
            let _ = writeln!(text, "{word:<6} {name}");
        }
        // A test executable without tests is not worth a line.
        for outcome in self.outcomes.iter().filter(|outcome| outcome.counts != Counts::default()) {
            let word = if outcome.counts.failed > 0 { "FAILED" } else { "ok" };
            let Counts { passed, failed, skipped } = outcome.counts;
            let _ = writeln!(
                text,
                "{word:<6} {}: {passed} passed, {failed} failed, {skipped} skipped ({:.1} s)",
                outcome.name,
                outcome.took.as_secs_f64()
            );
        }
        if !self.passed() {
            text.push_str("\nfailed:\n");
        }
        for (name, failure) in &self.checks {
            if let Some(failure) = failure {
                let _ = writeln!(text, "  {name}: {}", failure.lines().next().unwrap_or_default());
            }
        }
        for outcome in &self.outcomes {
            for failure in &outcome.failures {
                let _ = writeln!(text, "  {}: {failure}", outcome.name);
            }
            if outcome.failures.is_empty() && outcome.counts.failed > 0 {
                let _ = writeln!(text, "  {}: see above", outcome.name);
            }
        }
        let Counts { passed, failed, skipped } = self.counts();
        let _ = writeln!(text, "\nin {} min {} s", took.as_secs() / 60, took.as_secs() % 60);
        let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, passed: usize, failures: &[&str]) -> Outcome {
        Outcome {
            name: name.to_owned(),
            counts: Counts { passed, failed: failures.len(), skipped: 1 },
            failures: failures.iter().map(|&name| name.to_owned()).collect(),
            took: Duration::from_millis(1540),
        }
    }

    #[test]
    fn a_run_that_passes_ends_with_the_counts() {
        let mut summary = Summary::default();
        summary.check("lints", Ok(()));
        summary.add(outcome("steading-plan", 5, &[]));
        summary.add(outcome("suite-etcd", 4, &[]));
        assert!(summary.passed());
        assert_eq!(
            summary.render(Duration::from_secs(61)),
            "\n=== summary\n\
             ok     lints\n\
             ok     steading-plan: 5 passed, 0 failed, 1 skipped (1.5 s)\n\
             ok     suite-etcd: 4 passed, 0 failed, 1 skipped (1.5 s)\n\
             \nin 1 min 1 s\n\
             9 passed, 0 failed, 2 skipped\n"
        );
    }

    #[test]
    fn failures_are_named_again_and_a_failed_check_is_one() {
        let mut summary = Summary::default();
        summary.check::<()>("lints", Err(anyhow::anyhow!("`cargo clippy` failed\nmore")));
        summary.add(outcome("steading-plan", 5, &["address::a", "address::b"]));
        summary.add(Outcome::broken("suite-etcd", "it was not built"));
        assert!(!summary.passed());
        let text = summary.render(Duration::ZERO);
        assert!(text.contains(
            "\nfailed:\n  lints: `cargo clippy` failed\n  steading-plan: address::a\n  \
             steading-plan: address::b\n  suite-etcd: it was not built\n"
        ));
        assert!(text.ends_with("\n5 passed, 4 failed, 1 skipped\n"), "{text}");
    }
}
