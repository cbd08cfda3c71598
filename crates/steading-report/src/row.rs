//! What a run has to show for each function: how it ended, and what it measured.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// What a row is about. Tests and checks are counted; a setup or a teardown only if it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The test.
    pub function: String,
    /// What it measured.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// One function, or one rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// With the names of its sections.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began: its last attempt, if there were several. None if it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// How long it took.
    pub seconds: f64,
    /// Where the logs of its own fork of the testnet are, within the run's, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
    /// The last lines that it printed, if it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Row {
    /// A function that was not run, or a rule.
    pub fn new(name: &str, kind: Kind, outcome: Outcome) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            outcome,
            began: None,
            seconds: 0.0,
            fork: None,
            lines: Vec::new(),
        }
    }
}
