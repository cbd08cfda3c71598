//! A terminal as a user has it: a pseudo-terminal (pty(7)) with a program at its other end, and what
//! it shows, by a terminal emulator.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
pub use rustix::termios::Termios;
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

pub use vt100::Screen;

/// How many lines that have scrolled off can be looked at.
const SCROLLBACK: usize = 1000;

/// A terminal, and all that has come to it.
pub struct Terminal {
    ours: File,
    /// The program's end; kept until it was given to one.
    theirs: Option<File>,
    emulator: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// One of this size.
    ///
    /// # Panics
    ///
    /// Where no pseudo-terminals are available.
    pub fn new(columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a pseudo-terminal");
        grantpt(&ours).expect("its other end can be had");
        unlockpt(&ours).expect("its other end can be opened");
        let name = ptsname(&ours, Vec::new()).expect("its other end has a name");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("it has a size");
        let name = name.into_string().expect("names of terminals are ASCII");
        let mut options = OpenOptions::new();
        // It becomes nobody's controlling terminal, so keys are bytes and no signals.
        let theirs = std::os::unix::fs::OpenOptionsExt::custom_flags(
            options.read(true).write(true),
            rustix::fs::OFlags::NOCTTY.bits().cast_signed(),
        );
        let theirs = theirs.open(name).expect("its other end");
        let emulator = vt100::Parser::new(rows, columns, SCROLLBACK);
        Self { ours: File::from(ours), theirs: Some(theirs), emulator, raw: Vec::new() }
    }

    /// Makes this the terminal of a command that is about to be started, for all three streams.
    ///
    /// # Panics
    ///
    /// When it is that of another already.
    pub fn attach(&mut self, command: &mut Command) {
        let theirs = self.theirs.take().expect("a terminal has one program");
        let copy = || theirs.try_clone().expect("a descriptor");
        command.stdin(copy()).stdout(copy()).stderr(theirs);
    }

    /// Types on it.
    ///
    /// # Panics
    ///
    /// When nobody is there.
    pub fn type_in(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("somebody reads keys");
    }

    /// Reads until this is true of the screen, and looks at every state that it takes before.
    ///
    /// # Panics
    ///
    /// When it takes too long, or the program ends before.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut is_true: impl FnMut(&Screen) -> bool) {
        let end = Instant::now() + limit;
        while !is_true(self.emulator.screen()) {
            let more = self.read(end.saturating_duration_since(Instant::now()));
            assert!(more == Some(true), "waited for {what} ({more:?}):\n{}", self.history());
        }
    }

    /// Reads to the end: until nobody has the other end any more.
    ///
    /// # Panics
    ///
    /// When it takes too long.
    pub fn read_to_end(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            match self.read(end.saturating_duration_since(Instant::now())) {
                Some(true) => {}
                Some(false) => return,
                None => panic!("the program does not end:\n{}", self.history()),
            }
        }
    }

    /// One piece of what comes; false at the end, none when nothing came in time.
    fn read(&mut self, limit: Duration) -> Option<bool> {
        let limit = Timespec::try_from(limit).expect("it is short");
        let ready = poll(&mut [PollFd::new(&self.ours, PollFlags::IN)], Some(&limit)).expect("poll");
        if ready == 0 {
            return None;
        }
        let mut piece = [0; 4096];
        match self.ours.read(&mut piece) {
            Ok(0) => Some(false),
            Ok(read) => {
                self.raw.extend_from_slice(&piece[..read]);
                self.emulator.process(&piece[..read]);
                Some(true)
            }
            // Nobody has the other end.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Some(false),
            Err(error) => panic!("the terminal cannot be read: {error}"),
        }
    }

    /// What it shows.
    pub fn screen(&self) -> &Screen {
        self.emulator.screen()
    }

    /// How it treats keys and output at this moment (termios(3)).
    ///
    /// # Panics
    ///
    /// When it does not tell.
    pub fn modes(&self) -> Termios {
        tcgetattr(&self.ours).expect("a terminal has modes")
    }

    /// All bytes that have come.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The rows of the screen and those that have scrolled off, without spaces at their ends.
    pub fn history(&mut self) -> String {
        let (rows, columns) = self.screen().size();
        let text = |screen: &Screen| {
            screen.rows(0, columns).map(|row| row.trim_end().to_owned()).collect::<Vec<_>>()
        };
        let on_screen = text(self.screen());
        self.emulator.screen_mut().set_scrollback(usize::MAX);
        let scrolled = self.screen().scrollback();
        let mut lines = Vec::new();
        for back in (1..=scrolled).rev() {
            self.emulator.screen_mut().set_scrollback(back);
            lines.extend(text(self.screen()).into_iter().next());
        }
        self.emulator.screen_mut().set_scrollback(0);
        debug_assert_eq!(on_screen.len(), usize::from(rows));
        lines.extend(on_screen);
        lines.join("\n").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_program_sees_a_terminal_of_this_size_and_its_lines_are_kept() {
        let mut terminal = Terminal::new(60, 4);
        let mut command = Command::new("sh");
        command.args(["-c", "stty size; read word; for i in 1 2 3 4 5 6; do echo $word $i; done"]);
        terminal.attach(&mut command);
        let mut child = command.spawn().unwrap();
        drop(command);
        terminal.wait_until("its size", LIMIT, |screen| screen.contents().contains("4 60"));
        terminal.type_in("hello\n");
        terminal.read_to_end(LIMIT);
        assert!(child.wait().unwrap().success());
        assert!(!terminal.screen().contents().contains("hello 1"));
        let history = terminal.history();
        assert!((1..=6).all(|number| history.contains(&format!("hello {number}"))), "{history}");
    }
}
