//! The sum of a run.

use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Reserved};
use crate::row::{Kind, Metric, Row};
use crate::safe;

/// The version of the file that is written.
const VERSION: u32 = 2;

/// Its name.
const FILE: &str = "results.json";

/// How each function ended, and what was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The version of this format.
    steading_results: u32,
    /// The suite, which is also what its group is called unless it was given another name.
    suite: String,
    /// What ran, or was left out, in order of their ends; and the rules.
    functions: Vec<Row>,
    /// What was measured.
    metrics: Vec<Metric>,
    /// What went wrong outside of functions: kernels in trouble, full disks.
    warnings: Vec<String>,
    /// What was reserved on the machine, and how long that took. None if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserved: Option<Reserved>,
}

impl Summary {
    /// That of a run that has not begun.
    pub fn new(suite: &str) -> Self {
        let mut suite = suite.to_owned();
        safe::line(&mut suite);
        Self {
            steading_results: VERSION,
            suite,
            functions: Vec::new(),
            metrics: Vec::new(),
            warnings: Vec::new(),
            reserved: None,
        }
    }

    /// Reads the one that was written into this directory.
    ///
    /// # Errors
    ///
    /// When there is none, or one of another version.
    pub fn read(dir: &Utf8Path) -> io::Result<Self> {
        let file = dir.join(FILE);
        Self::parse(&fs_err::read(&file)?).map_err(|error| io::Error::other(format!("{file}: {error}")))
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// When these bytes are none, or one of another version.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let summary: Self = serde_json::from_slice(bytes)?;
        if summary.steading_results == VERSION {
            return Ok(summary.safe());
        }
        let found = summary.steading_results;
        Err(io::Error::other(format!("it has version {found}, and this program knows {VERSION}")))
    }

    /// The same results; the file may be anybody's.
    fn safe(mut self) -> Self {
        safe::line(&mut self.suite);
        self.functions = self.functions.into_iter().map(Row::safe).collect();
        self.metrics = self.metrics.into_iter().map(Metric::safe).collect();
        self.warnings.iter_mut().for_each(safe::lines);
        self
    }

    /// The suite.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// Adds a function's end.
    pub fn add(&mut self, row: Row) {
        let lines = if matches!(row.outcome, Outcome::Failed(_)) { row.lines } else { Vec::new() };
        self.functions.push(Row { lines, ..row }.safe());
    }

    /// Adds a measured value.
    pub fn add_metric(&mut self, metric: Metric) {
        self.metrics.push(metric.safe());
    }

    /// Adds something that was not as it should be.
    pub fn add_warning(&mut self, mut warning: String) {
        safe::lines(&mut warning);
        self.warnings.push(warning);
    }

    /// Tells what was reserved.
    pub fn reserve(&mut self, reserved: Option<Reserved>) {
        self.reserved = reserved;
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

    /// Every function, in the order of their ends.
    pub fn rows(&self) -> &[Row] {
        &self.functions
    }

    /// Writes it as `results.json` into this directory.
    pub fn write(&self, dir: &Utf8Path) -> io::Result<()> {
        fs_err::write(dir.join(FILE), serde_json::to_vec_pretty(self)?)
    }
}

/// Whether rows of this kind are counted, however they ended.
pub(crate) const fn is_counted(kind: Kind) -> bool {
    matches!(kind, Kind::Test | Kind::Check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn tests_are_counted_once_and_setups_only_when_they_failed() {
        let mut summary = Summary::new("s");
        let mut add = |name: &str, kind, outcome| {
            summary.add(Row { lines: vec!["said".to_owned()], ..Row::new(name, kind, outcome) });
        };
        add("setup", Kind::Setup, Outcome::Passed);
        add("a", Kind::Test, Outcome::Passed);
        add("b", Kind::Test, Outcome::Failed(Failure::Panicked));
        add("c", Kind::Test, Outcome::Skipped { reason: "filter".to_owned() });
        add("d", Kind::Test, Outcome::Flaky { attempt: 2, before: Failure::Returned });
        add("teardown", Kind::Teardown, Outcome::Failed(Failure::Returned));
        assert_eq!((summary.passed(), summary.flaky(), summary.failed(), summary.skipped()), (1, 1, 2, 1));
        assert!(!summary.has_failed_setup());
        assert!(summary.rows()[1].lines.is_empty());
        assert_eq!(summary.rows()[2].lines, ["said"]);
    }

    /// The next number to it came back.
    #[test]
    fn a_measured_value_is_read_as_it_was_written() {
        let mut summary = Summary::new("s");
        let value = 1.666_666_666_666_666_6;
        summary.add_metric(Metric { function: "t".to_owned(), name: "s".to_owned(), value });
        let read = Summary::parse(&serde_json::to_vec(&summary).unwrap()).unwrap();
        assert_eq!(read.metrics()[0].value.to_bits(), value.to_bits());
    }

    #[test]
    fn what_is_written_is_read_and_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut summary = Summary::new("s");
        summary.add(Row::new("a", Kind::Test, Outcome::Failed(Failure::Signal { signal: 6 })));
        summary.write(dir).unwrap();
        let read = Summary::read(dir).unwrap();
        assert_eq!((read.suite(), &read.rows()[0].outcome), ("s", &summary.rows()[0].outcome));
        Summary { steading_results: 9, ..summary }.write(dir).unwrap();
        assert!(Summary::read(dir).unwrap_err().to_string().contains("version 9"));
    }
}
