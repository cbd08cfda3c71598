//! Results with texts that are safe to show: what guests, tests and programs said is in them.

use steading_plan::text;

use crate::outcome::{Failure, Outcome};
use crate::row::{Metric, Row};

/// How much of a line is shown, in bytes.
pub(crate) const LINE_MAX: usize = 4 << 10;

/// How much of a text of several lines is shown, in bytes.
pub(crate) const TEXT_MAX: usize = 16 << 10;

/// Makes a text one line.
pub(crate) fn line(line: &mut String) {
    change(line, |text| text::bounded(&text::one_line(text), LINE_MAX).into_owned());
}

/// Makes a text lines.
pub(crate) fn lines(lines: &mut String) {
    change(lines, |text| text::bounded(&text::lines(text), TEXT_MAX).into_owned());
}

fn change(text: &mut String, to: impl Fn(&str) -> String) {
    let safe = to(text);
    if safe != *text {
        *text = safe;
    }
}

impl Outcome {
    pub(crate) fn make_safe(&mut self) {
        match self {
            Self::Passed => {}
            Self::Flaky { before: failure, .. } | Self::Failed(failure) => failure.make_safe(),
            Self::Skipped { reason } => line(reason),
        }
    }
}

impl Failure {
    pub(crate) fn make_safe(&mut self) {
        if let Self::Rule { reason } | Self::Group { reason } = self {
            lines(reason);
        }
    }
}

impl Row {
    /// The same row.
    pub(crate) fn safe(mut self) -> Self {
        line(&mut self.name);
        self.outcome.make_safe();
        self.fork.iter_mut().for_each(line);
        self.lines.iter_mut().for_each(line);
        self
    }
}

impl Metric {
    /// The same value.
    pub(crate) fn safe(mut self) -> Self {
        line(&mut self.function);
        line(&mut self.name);
        self
    }
}
