//! What is checked when everything is over: patterns of the log, ranges of measured values.

use std::fmt;
use std::ops::{Bound, RangeBounds};

/// All rules of a suite.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) log: Vec<LogRule>,
    pub(crate) metrics: Vec<MetricRule>,
}

impl Rules {
    /// Adds patterns that must, and that must not, occur in the log.
    pub(crate) fn add(&mut self, required: &[String], forbidden: &[String]) {
        self.log.extend(required.iter().map(LogRule::require));
        self.log.extend(forbidden.iter().map(LogRule::forbid));
    }
}

/// A pattern that must, or must not, occur in the log.
#[derive(Debug)]
pub(crate) struct LogRule {
    pub(crate) pattern: String,
    pub(crate) required: bool,
}

impl LogRule {
    pub(crate) fn forbid(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), required: false }
    }

    pub(crate) fn require(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), required: true }
    }
}

impl fmt::Display for LogRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {} /{}/", if self.required { "has" } else { "has no" }, self.pattern)
    }
}

/// The range of a measured value.
#[derive(Debug)]
pub(crate) struct MetricRule {
    pub(crate) name: String,
    range: (Bound<f64>, Bound<f64>),
}

impl MetricRule {
    pub(crate) fn new(name: impl Into<String>, range: &impl RangeBounds<f64>) -> Self {
        Self { name: name.into(), range: (range.start_bound().cloned(), range.end_bound().cloned()) }
    }

    /// Whether a value is in the range. What is not a number never is.
    pub(crate) fn allows(&self, value: f64) -> bool {
        self.range.contains(&value)
    }
}

impl fmt::Display for MetricRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match self.range.0 {
            Bound::Included(least) => write!(f, " >= {least}")?,
            Bound::Excluded(least) => write!(f, " > {least}")?,
            Bound::Unbounded => {}
        }
        match self.range.1 {
            Bound::Included(most) => write!(f, " <= {most}"),
            Bound::Excluded(most) => write!(f, " < {most}"),
            Bound::Unbounded => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_rule_knows_its_range_and_shows_it() {
        let rule = MetricRule::new("latency_ms", &(0.5..10.0));
        assert!(rule.allows(0.5) && rule.allows(9.9));
        assert!(!rule.allows(0.4) && !rule.allows(10.0) && !rule.allows(f64::NAN));
        assert_eq!(rule.to_string(), "latency_ms >= 0.5 < 10");
        assert_eq!(MetricRule::new("n", &(..=3.0)).to_string(), "n <= 3");
    }
}
