//! The console of one VM, over all its boots.
//!
//! The console is the only witness of what happens before the network and after a panic. It is one
//! stream from the VM's first byte to its last: kills, starts and reboots are marks in it, never a
//! new beginning.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::badness::{Badness, badness};
use crate::line::{LineSplitter, SplitLine, Stripper};
use crate::text::ConsoleText;

/// How long an unfinished last line waits for its rest before it is given out.
pub const PARTIAL_QUIET_TIME: Duration = Duration::from_millis(500);

/// How many last lines are kept for failure messages.
pub const TAIL_LINES: usize = 200;

/// A line of a console, without control sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// The text, without its line end.
    pub text: String,
    /// It continues the line given out before it.
    pub continued: bool,
    /// The boot it belongs to, counted from 1; 0 before the first.
    pub boot: u32,
    /// The kernel's trouble that it tells of.
    pub badness: Option<Badness>,
}

/// The console of one VM. Input and output are the owner's: bytes go in, lines come out.
#[derive(Debug)]
pub struct Console {
    stripper: Stripper,
    splitter: LineSplitter,
    text: ConsoleText,
    tail: VecDeque<String>,
    boot: u32,
    boot_start: u64,
    partial_since: Option<Instant>,
    progress: watch::Sender<u64>,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// A console of which nothing has come yet.
    pub fn new() -> Self {
        Self {
            stripper: Stripper::new(),
            splitter: LineSplitter::new(),
            text: ConsoleText::default(),
            tail: VecDeque::new(),
            boot: 0,
            boot_start: 0,
            partial_since: None,
            progress: watch::Sender::new(0),
        }
    }

    /// Takes bytes that arrived at `now` and returns the lines that they complete.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<ConsoleLine> {
        let mut stripped = String::new();
        self.stripper.push(bytes, &mut stripped);
        let mut lines = Vec::new();
        self.splitter.push(&stripped, &mut lines);
        self.append_text(&stripped);
        self.partial_since = (!self.splitter.partial().is_empty()).then_some(now);
        self.keep(lines)
    }

    /// When the unfinished last line is to be given out, if there is one.
    pub fn partial_deadline(&self) -> Option<Instant> {
        self.partial_since.map(|since| since + PARTIAL_QUIET_TIME)
    }

    /// Gives out the unfinished last line; call it at [`Self::partial_deadline`].
    pub fn flush_partial(&mut self) -> Option<ConsoleLine> {
        self.partial_since = None;
        let part = self.splitter.take_part()?;
        self.keep(vec![part]).pop()
    }

    /// Marks the start of QEMU, or a reset of the machine. Returns what was left of the boot before.
    ///
    /// The boot's number is [`Self::boot`] afterwards, and its text begins at [`Self::boot_start`].
    pub fn mark_boot(&mut self) -> Vec<ConsoleLine> {
        let mut stripped = String::new();
        self.stripper.reset(&mut stripped);
        let mut lines = Vec::new();
        self.splitter.push(&stripped, &mut lines);
        self.splitter.finish_line(&mut lines);
        // Nothing is added where there is a line end already.
        stripped.push('\n');
        self.partial_since = None;
        let lines = self.keep(lines);
        self.boot += 1;
        self.append_text(&stripped);
        self.boot_start = self.text.end();
        lines
    }

    /// Goes on with a guest that was booted elsewhere, this often.
    pub fn go_on(&mut self, boot: u32) {
        self.boot = boot;
    }

    /// The number of the current boot, from 1; 0 before the first.
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// The absolute offset in [`Self::text`] where the current boot begins.
    pub fn boot_start(&self) -> u64 {
        self.boot_start
    }

    /// The stripped text, to search.
    pub fn text(&self) -> &ConsoleText {
        &self.text
    }

    /// A watch on the absolute offset of the text's end: it changes whenever text has come.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// The last `count` lines, oldest first, with the unfinished one; for failure messages.
    pub fn tail(&self, count: usize) -> Vec<&str> {
        let partial = Some(self.splitter.partial()).filter(|text| !text.is_empty());
        let mut lines: Vec<&str> =
            partial.into_iter().chain(self.tail.iter().rev().map(String::as_str)).take(count).collect();
        lines.reverse();
        lines
    }

    fn append_text(&mut self, stripped: &str) {
        if stripped.is_empty() {
            return;
        }
        let end = self.text.end();
        let at_start = end == 0 || self.text.since(end - 1) == "\n";
        self.text.push(&normalised(stripped, at_start));
        self.progress.send_replace(self.text.end());
    }

    fn keep(&mut self, lines: Vec<SplitLine>) -> Vec<ConsoleLine> {
        let boot = self.boot;
        let mut kept = Vec::with_capacity(lines.len());
        for SplitLine { text, continued } in lines {
            match self.tail.back_mut() {
                Some(last) if continued && last.len() < crate::LINE_MAX => last.push_str(&text),
                _ => {
                    if self.tail.len() == TAIL_LINES {
                        self.tail.pop_front();
                    }
                    self.tail.push_back(text.clone());
                }
            }
            kept.push(ConsoleLine { badness: badness(&text), text, continued, boot });
        }
        kept
    }
}

/// `text` with each kind of line end as one `\n`, so that `$` in a pattern finds the end of a line.
/// `at_start` says that it begins a line.
fn normalised(text: &str, at_start: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_return = false;
    for character in text.chars() {
        let at_start = if out.is_empty() { at_start } else { out.ends_with('\n') };
        match character {
            // A blank line is of no use to a search; so `\r`, `\r\n` and `\n` can be one thing,
            // also where they are split over two pushes.
            '\n' | '\r' if at_start || after_return => {}
            '\n' | '\r' => out.push('\n'),
            _ => out.push(character),
        }
        after_return = character == '\r';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[ConsoleLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_come_out_as_they_are_completed() {
        let mut console = Console::new();
        let now = Instant::now();
        console.mark_boot();
        assert_eq!(texts(&console.push(b"one\r\ntwo\r", now)), ["one", "two"]);
        assert_eq!(texts(&console.push(b"\nthr", now)), [""; 0]);
        assert_eq!(console.partial_deadline(), Some(now + PARTIAL_QUIET_TIME));
        assert_eq!(texts(&console.push(b"ee\n", now)), ["three"]);
        assert_eq!(console.partial_deadline(), None);
    }

    #[test]
    fn a_login_prompt_is_searchable_before_its_line_ends_and_given_out_after_a_quiet_time() {
        let mut console = Console::new();
        console.mark_boot();
        console.push(b"\x1b[1mdebian\x1b[0m login: ", Instant::now());
        let regex = regex::Regex::new("login: $").expect("pattern");
        assert!(console.text().find(&regex, console.boot_start()).is_some());
        let part = console.flush_partial().expect("a partial line");
        assert_eq!((part.text.as_str(), part.continued), ("debian login: ", false));
        assert_eq!(console.flush_partial(), None);
        let rest = console.push(b"root\r\n", Instant::now());
        assert_eq!((rest[0].text.as_str(), rest[0].continued), ("root", true));
        assert_eq!(console.tail(5), ["debian login: root"]);
    }

    #[test]
    fn a_boot_begins_a_new_line_and_hides_the_old_text_from_a_wait() {
        let mut console = Console::new();
        console.mark_boot();
        console.push(b"login: \x1b[3", Instant::now());
        let left = console.mark_boot();
        assert_eq!(texts(&left), ["login: "]);
        assert_eq!((left[0].boot, console.boot()), (1, 2));
        let regex = regex::Regex::new("(?m)^login").expect("pattern");
        assert_eq!(console.text().find(&regex, console.boot_start()), None);
        let lines = console.push(b"1mlogin: x\n", Instant::now());
        assert_eq!(texts(&lines), ["1mlogin: x"], "the unfinished sequence ended with the boot before");
    }

    #[test]
    fn every_line_end_is_one_newline_in_the_text() {
        let mut console = Console::new();
        for piece in [&b"a\r"[..], b"\nb\r\r\nc\n\rd\re", b"\r\n", b"\r\nf"] {
            console.push(piece, Instant::now());
        }
        assert_eq!(console.text().since(0), "a\nb\nc\nd\ne\nf");
    }

    /// It was lost there, so `$` in a pattern did not match.
    #[test]
    fn a_line_end_that_comes_alone_after_a_character_of_several_bytes_is_kept() {
        let mut console = Console::new();
        for piece in ["café", "\r\n", "b€", "\n", "c"] {
            console.push(piece.as_bytes(), Instant::now());
        }
        assert_eq!(console.text().since(0), "café\nb€\nc");
    }

    #[test]
    fn the_tail_is_bounded_and_ends_with_the_unfinished_line() {
        let mut console = Console::new();
        for number in 0..TAIL_LINES + 10 {
            console.push(format!("line {number}\n").as_bytes(), Instant::now());
        }
        console.push(b"unfinished", Instant::now());
        assert_eq!(console.tail(2), ["line 209", "unfinished"]);
        assert_eq!(console.tail(1000).len(), TAIL_LINES + 1);
    }

    #[test]
    fn a_panic_is_noticed() {
        let mut console = Console::new();
        let lines = console.push(b"[ 1.0] Kernel panic - not syncing: x\n", Instant::now());
        assert_eq!(lines[0].badness, Some(Badness::Panic));
    }

    #[test]
    fn progress_is_told_to_those_who_wait() {
        let mut console = Console::new();
        let mut progress = console.progress();
        assert!(!progress.has_changed().expect("open"));
        console.push(b"x", Instant::now());
        assert!(progress.has_changed().expect("open"));
        assert_eq!(*progress.borrow_and_update(), 1);
    }
}
