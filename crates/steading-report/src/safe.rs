//! Events and results with texts that are safe to show: what guests, tests and programs said is in them.

use steading_plan::text;

use crate::{Event, Failure, Metric, Outcome, Row, Wait};

/// How much of a line is shown, in bytes.
const LINE_MAX: usize = 4 << 10;

/// How much of a text of several lines is shown, in bytes.
const TEXT_MAX: usize = 16 << 10;

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

impl Event {
    /// The same event.
    pub(crate) fn safe(&self) -> Self {
        let mut event = self.clone();
        match &mut event {
            Self::Planned { suite, resources, vms, acceleration, reason } => {
                [suite, resources, acceleration, reason].into_iter().for_each(line);
                for vm in vms {
                    line(&mut vm.name);
                }
            }
            Self::Preparing { vm: text, .. }
            | Self::Warm { what: text }
            | Self::Admitted { needs: text, .. }
            | Self::Vm { vm: text, .. }
            | Self::Started { name: text }
            | Self::CommandEnded { log_dir: text, .. }
            | Self::Staying { socket: text, .. } => line(text),
            Self::Kept { name: one, file: other }
            | Self::Queued { needs: one, held: other, .. }
            | Self::Line { name: one, text: other } => {
                line(one);
                line(other);
            }
            Self::Waiting { name, what } => {
                line(name);
                what.iter_mut().for_each(line);
            }
            Self::Ended { name, outcome, .. } => {
                line(name);
                outcome.make_safe();
            }
            Self::Retried { name, failure, .. } => {
                line(name);
                failure.make_safe();
            }
            Self::Waits { functions, vms } => {
                for Wait { name, what, .. } in functions {
                    line(name);
                    if let Some((what, _)) = what {
                        line(what);
                    }
                }
                for (vm, state) in vms {
                    line(vm);
                    line(state);
                }
            }
            Self::Left { name, processes } => {
                line(name);
                processes.iter_mut().for_each(line);
            }
            Self::Warning { message } | Self::Error { message } => lines(message),
            Self::Finished { log_dir, report, again, .. } => {
                // Its results were made safe when they were added.
                line(log_dir);
                report.iter_mut().chain(again).for_each(line);
            }
            Self::Starting | Self::Interrupted { .. } => {}
        }
        event
    }
}

impl Outcome {
    fn make_safe(&mut self) {
        match self {
            Self::Passed => {}
            Self::Flaky { before: failure, .. } | Self::Failed(failure) => failure.make_safe(),
            Self::Skipped { reason } => line(reason),
        }
    }
}

impl Failure {
    fn make_safe(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const NASTY: &str = "\x1b[2J\u{202e}\u{fffe}a\nb\u{7}";

    #[test]
    fn what_an_event_tells_cannot_move_the_cursor_or_forge_a_line() {
        let said = Event::Line { name: NASTY.to_owned(), text: NASTY.to_owned() }.safe();
        let Event::Line { name, text } = said else { panic!("{said:?}") };
        assert_eq!((name.as_str(), &text), ("\\u{1b}[2J\\u{202e}\\u{fffe}a\\nb\\u{7}", &name));
        let error = Event::Error { message: format!("{NASTY}\nhint: x") }.safe();
        let Event::Error { message } = error else { panic!("{error:?}") };
        assert!(message.ends_with("a\nb\\u{7}\nhint: x"), "{message}");
    }

    #[test]
    fn what_is_said_of_a_failure_is_bounded() {
        let lines = vec!["x".repeat(192 << 10); 20];
        let failure = Failure::Group { reason: "y".repeat(192 << 10) };
        let row = Row { lines, ..Row::new("a", Kind::Test, Outcome::Failed(failure)) }.safe();
        assert!(row.lines.iter().all(|line| line.len() < LINE_MAX + 50));
        let Outcome::Failed(Failure::Group { reason }) = row.outcome else { panic!("{row:?}") };
        assert!(reason.len() < TEXT_MAX + 50 && reason.contains("bytes omitted"));
    }
}
