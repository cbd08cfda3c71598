//! This program's own terminal: its size, and its raw mode for as long as a guest's is shown in it.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use steading_plan::env_vars;

/// The terminal in raw mode: each key goes on as it is. It is put back when this is dropped.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// None where the input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows; what terminals had at first, where there is none.
pub(crate) fn size() -> (u32, u32) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// What kind of terminal it is (terminfo(5)).
pub(crate) fn kind() -> String {
    std::env::var(env_vars::TERM).unwrap_or_else(|_| "vt100".to_owned())
}
