//! The sum of a run.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::Outcome;

/// How each function ended, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The version of this format.
    steading_results: u32,
    functions: Vec<Row>,
    metrics: Vec<Metric>,
    /// What was not as it should be, beside the functions: kernels in trouble, full disks.
    warnings: Vec<String>,
}

/// What a row is about. Tests and checks are counted; a setup or a teardown only if it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What is done before tests.
    Setup,
    /// A test.
    Test,
    /// What is done after tests.
    Teardown,
    /// A rule that was checked at the end.
    Check,
}

/// A value that a test measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// The test.
    pub function: String,
    /// What it measured.
    pub name: String,
    /// The value.
    pub value: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    /// The last lines that it printed, if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lines: Vec<String>,
}

impl Default for Summary {
    fn default() -> Self {
        Self { steading_results: 2, functions: Vec::new(), metrics: Vec::new(), warnings: Vec::new() }
    }
}

impl Summary {
    /// Adds a function's end.
    pub fn add(&mut self, name: &str, kind: Kind, outcome: Outcome, seconds: f64, lines: Vec<String>) {
        let lines = if matches!(outcome, Outcome::Failed(_)) { lines } else { Vec::new() };
        self.functions.push(Row { name: name.to_owned(), kind, outcome, seconds, lines });
    }

    /// Adds a measured value.
    pub fn add_metric(&mut self, metric: Metric) {
        self.metrics.push(metric);
    }

    /// Adds something that was not as it should be.
    pub fn add_warning(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What was not as it should be.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All measured values.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// How many tests and checks have passed.
    pub fn passed(&self) -> usize {
        self.count(|row| is_counted(row.kind) && row.outcome == Outcome::Passed)
    }

    /// How many tests have passed, but not at first.
    pub fn flaky(&self) -> usize {
        self.count(|row| matches!(row.outcome, Outcome::Flaky { .. }))
    }

    /// How many tests, checks, setups and teardowns have failed.
    pub fn failed(&self) -> usize {
        self.count(|row| matches!(row.outcome, Outcome::Failed(_)))
    }

    /// Whether a setup has failed.
    pub fn has_failed_setup(&self) -> bool {
        self.functions.iter().any(|row| row.kind == Kind::Setup && matches!(row.outcome, Outcome::Failed(_)))
    }

    /// How many tests and checks were left out.
    pub fn skipped(&self) -> usize {
        self.count(|row| is_counted(row.kind) && matches!(row.outcome, Outcome::Skipped { .. }))
    }

    fn count(&self, wanted: impl Fn(&Row) -> bool) -> usize {
        self.functions.iter().filter(|row| wanted(row)).count()
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.functions
    }

    /// Writes it as `results.json` into this directory.
    pub fn write(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        fs_err::write(dir.as_ref().join("results.json"), json)
    }
}

const fn is_counted(kind: Kind) -> bool {
    matches!(kind, Kind::Test | Kind::Check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn tests_are_counted_once_and_setups_only_when_they_failed() {
        let mut summary = Summary::default();
        let said = || vec!["said".to_owned()];
        summary.add("setup", Kind::Setup, Outcome::Passed, 1.0, said());
        summary.add("a", Kind::Test, Outcome::Passed, 1.0, said());
        summary.add("b", Kind::Test, Outcome::Failed(Failure::Panicked), 1.0, said());
        summary.add("c", Kind::Test, Outcome::Skipped { reason: "filter".to_owned() }, 0.0, Vec::new());
        let flaky = Outcome::Flaky { attempt: 2, before: Failure::Returned };
        summary.add("d", Kind::Test, flaky, 1.0, said());
        summary.add("teardown", Kind::Teardown, Outcome::Failed(Failure::Returned), 1.0, said());
        assert_eq!((summary.passed(), summary.flaky(), summary.failed(), summary.skipped()), (1, 1, 2, 1));
        assert!(!summary.has_failed_setup());
        assert!(summary.rows()[1].lines.is_empty());
        assert_eq!(summary.rows()[2].lines, ["said"]);
    }
}
