//! The sum of a run.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::Outcome;

/// How each function ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The version of this format.
    steading_results: u32,
    functions: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    /// The last lines that it printed, if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lines: Vec<String>,
}

impl Summary {
    /// Adds a function's end.
    pub fn add(&mut self, name: &str, outcome: Outcome, seconds: f64, lines: Vec<String>) {
        self.steading_results = 1;
        let lines = if matches!(outcome, Outcome::Failed(_)) { lines } else { Vec::new() };
        self.functions.push(Row { name: name.to_owned(), outcome, seconds, lines });
    }

    /// How many have passed, setup and teardowns included.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// How many have failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// How many were left out.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped { .. }))
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.functions.iter().filter(|row| wanted(&row.outcome)).count()
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
