//! This program's own terminal: its size, and its raw mode for as long as a guest's is shown in it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::ChildStdin;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use steading_plan::env_vars;
use steading_sys::process::{Program, Started};

/// Puts the terminal, which is its descriptor 3, back when its input ends without a word: then this program
/// was killed. It is in the background, from where a terminal can be changed by who ignores SIGTTOU only
/// (termios(3)).
const KEEPER: &str = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU; before=$(stty -g <&3) && echo ready && \
                      { read -r word; test \"$word\" = done || stty \"$before\" <&3; }";

/// The terminal in raw mode: each key goes on as it is. It is put back when this is dropped.
pub(crate) struct Raw {
    before: Termios,
    keeper: Option<ChildStdin>,
}

impl Raw {
    /// None where the input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        // Where there is no stty(1), all but SIGKILL is provided for.
        let keeper = keeper().ok();
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before, keeper }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
        if let Some(keeper) = &mut self.keeper {
            // One that has ended keeps nothing.
            let _ = keeper.write_all(b"done\n");
        }
    }
}

/// Starts what puts the terminal back when this program is killed, and waits until it knows how the terminal is.
fn keeper() -> anyhow::Result<ChildStdin> {
    let terminal = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 4)?;
    let program = Program {
        argv: ["sh", "-c", KEEPER].map(str::to_owned).into(),
        package: None,
        env: Vec::new(),
        cwd: None,
        fds: vec![(terminal, 3)],
        network_capabilities: false,
    };
    let Started { stdin, stdout, .. } = program.start()?;
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said)?;
    anyhow::ensure!(said == "ready\n", "stty(1) does not work");
    Ok(stdin)
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
