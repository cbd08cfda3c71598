//! The lines below what was printed, which change in place: drawn by indicatif on standard error,
//! if that is a terminal that can.

use std::cell::RefCell;
use std::io::IsTerminal as _;

use anstream::{AutoStream, ColorChoice};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use crate::board::Size;

/// How often a second lines are drawn at most; those of the moment are drawn with the next change.
const DRAWN_A_SECOND: u8 = 20;

/// What terminals had at first, where they do not tell.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// For lines that no screen shows.
pub(crate) const UNBOUNDED: Size = Size { columns: usize::MAX, rows: usize::MAX };

/// The lines that change in place.
#[derive(Debug)]
pub(crate) struct Screen {
    /// All lines are one bar's text, so that they are drawn at once. There is none while there is
    /// nothing to show: it would take a row.
    bar: RefCell<Option<ProgressBar>>,
    has_colours: bool,
}

impl Screen {
    /// None where standard error is no terminal, or one that cannot move its cursor (`TERM=dumb`).
    pub(crate) fn of_stderr() -> Option<Self> {
        if target().is_hidden() {
            return None;
        }
        let has_colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
        Some(Self { bar: RefCell::default(), has_colours })
    }

    /// Shows these lines and no others.
    pub(crate) fn show(&self, lines: &[String]) {
        let mut bar = self.bar.borrow_mut();
        if lines.is_empty() {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let text = lines.join("\n");
        let text = if self.has_colours { text } else { anstream::adapter::strip_str(&text).to_string() };
        bar.get_or_insert_with(bar_without_text).set_message(text);
    }

    /// Prints something above them.
    pub(crate) fn above(&self, print: impl FnOnce()) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(DRAWN_A_SECOND)
}

fn bar_without_text() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    bar.with_style(ProgressStyle::with_template("{msg}").expect("the template has one field"))
}

/// The size of the terminal that standard error is.
pub(crate) fn size() -> Size {
    match tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL,
    }
}

pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
