//! Events with texts that are safe to show.

use crate::event::{Event, Wait};
use crate::safe::{line, lines};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Failure, Outcome};
    use crate::row::{Kind, Row};
    use crate::safe::{LINE_MAX, TEXT_MAX};

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
