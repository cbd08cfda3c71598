//! From the bytes of a serial console to lines of text.
//!
//! A serial console carries a terminal's language: colours, cursor movements, window titles,
//! several kinds of line ends, and bytes that are no text at all. People and patterns want lines.
//! Both parts here are incremental: bytes arrive in pieces that end anywhere.

/// The longest line that is kept whole, in bytes. What is longer is split into continued parts.
pub const LINE_MAX: usize = 16 * 1024;

/// The longest operating system command (window titles and the like) that is skipped, in bytes.
/// An unfinished one must not swallow the rest of the console.
const STRING_MAX: usize = 4096;

const BELL: u8 = 0x07;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// Where in a control sequence the stream stands (ECMA-48, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    Intermediate,
    Csi,
    String {
        seen: usize,
    },
    StringEscape,
}

/// Removes control sequences and decodes what remains, over pushes of any size.
///
/// The text that comes out has `\n`, `\r` and tabs; no other control character. Cursor positioning
/// and screen erasure come out as `\r`, so that menus drawn by them become lines.
#[derive(Debug, Default)]
pub struct Stripper {
    state: State,
    /// Stripped bytes that are not yet decoded: at most an unfinished UTF-8 sequence between pushes.
    pending: Vec<u8>,
}

impl Stripper {
    /// A stripper at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `bytes` and appends their text to `out`; invalid UTF-8 becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        for &byte in bytes {
            self.step(byte);
        }
        self.decode(out);
    }

    /// Forgets an unfinished sequence: the machine was switched off in the midst of it.
    pub fn reset(&mut self, out: &mut String) {
        self.state = State::Ground;
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::String { .. }, ESCAPE) => State::StringEscape,
            (_, ESCAPE) => State::Escape,
            (_, CANCEL | SUBSTITUTE) => State::Ground,
            // No sequence reaches over a line end: a broken one costs its line at most.
            (State::Ground, _) | (_, b'\n' | b'\r') => self.emit(byte),
            (State::Escape | State::StringEscape, _) => self.after_escape(byte),
            (State::Intermediate, _) => self.in_intermediate(byte),
            (State::Csi, _) => self.in_csi(byte),
            (State::String { seen }, _) => self.in_string(byte, seen),
        };
    }

    fn after_escape(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::StringEscape, b'\\') => State::Ground,
            (_, b'[') => State::Csi,
            (_, b']' | b'P' | b'X' | b'^' | b'_') => State::String { seen: 0 },
            _ => self.in_intermediate(byte),
        }
    }

    fn in_intermediate(&mut self, byte: u8) -> State {
        match byte {
            0x20..=0x2f => State::Intermediate,
            0x30..=0x7e => State::Ground,
            // What no sequence may contain ends it and is text.
            _ => self.emit(byte),
        }
    }

    fn in_csi(&mut self, byte: u8) -> State {
        match byte {
            0x20..=0x3f => State::Csi,
            // CNL, CPL, CUP, ED, VPA, HVP: the cursor leaves the line.
            b'E' | b'F' | b'H' | b'J' | b'd' | b'f' => self.emit(b'\r'),
            0x40..=0x7e => State::Ground,
            _ => self.emit(byte),
        }
    }

    fn in_string(&mut self, byte: u8, seen: usize) -> State {
        match byte {
            BELL => State::Ground,
            _ if seen < STRING_MAX => State::String { seen: seen + 1 },
            _ => self.emit(byte),
        }
    }

    fn emit(&mut self, byte: u8) -> State {
        let control = byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t');
        if !control && byte != DELETE {
            self.pending.push(byte);
        }
        State::Ground
    }

    fn decode(&mut self, out: &mut String) {
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    push_printable(out, text);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    push_printable(out, &String::from_utf8_lossy(valid));
                    let Some(length) = error.error_len() else {
                        self.pending = after.to_vec();
                        return;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
            }
        }
    }
}

/// Appends `text` without the C1 controls, which have no look.
fn push_printable(out: &mut String, text: &str) {
    out.extend(text.chars().filter(|character| !('\u{80}'..='\u{9f}').contains(character)));
}

/// One line, or one part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitLine {
    /// The text, without its line end.
    pub text: String,
    /// It continues the part before it: that one was too long, or had waited too long.
    pub continued: bool,
}

/// Splits stripped text into lines at `\n`, `\r\n` and a lone `\r`, over pushes of any size.
///
/// `\r\r\n` and `\n\r`, which consoles produce as well, are one line end.
#[derive(Debug, Default)]
pub struct LineSplitter {
    current: String,
    /// A part of the current line was given out before.
    continued: bool,
    /// The last line was ended by `\r`, and nothing came since: a `\n` belongs to it.
    after_return: bool,
}

impl LineSplitter {
    /// A splitter at the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `text` and appends the lines that it completes to `out`.
    pub fn push(&mut self, text: &str, out: &mut Vec<SplitLine>) {
        for character in text.chars() {
            match character {
                '\n' if self.after_return => self.after_return = false,
                '\n' => self.end_line(out),
                '\r' => {
                    if self.has_open_line() {
                        self.end_line(out);
                        self.after_return = true;
                    }
                }
                _ => {
                    self.after_return = false;
                    if self.current.len() + character.len_utf8() > LINE_MAX {
                        out.extend(self.take_part());
                    }
                    self.current.push(character);
                }
            }
        }
    }

    /// The text of the line that has not ended yet and was not given out yet.
    pub fn partial(&self) -> &str {
        &self.current
    }

    /// Gives out the unfinished line; what follows on it will be marked as continued.
    pub fn take_part(&mut self) -> Option<SplitLine> {
        if self.current.is_empty() {
            return None;
        }
        let continued = std::mem::replace(&mut self.continued, true);
        Some(SplitLine { text: std::mem::take(&mut self.current), continued })
    }

    /// Ends the current line whatever it holds: what follows is a new line.
    pub fn finish_line(&mut self, out: &mut Vec<SplitLine>) {
        if self.has_open_line() {
            self.end_line(out);
        }
        self.after_return = false;
    }

    fn has_open_line(&self) -> bool {
        self.continued || !self.current.is_empty()
    }

    fn end_line(&mut self, out: &mut Vec<SplitLine>) {
        let continued = std::mem::take(&mut self.continued);
        let text = std::mem::take(&mut self.current);
        // The end of a line whose every part was given out adds nothing.
        if !(continued && text.is_empty()) {
            out.push(SplitLine { text, continued });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strip(pieces: &[&[u8]]) -> String {
        let mut stripper = Stripper::new();
        let mut out = String::new();
        for piece in pieces {
            stripper.push(piece, &mut out);
        }
        out
    }

    fn lines(text: &str) -> Vec<String> {
        let mut splitter = LineSplitter::new();
        let mut out = Vec::new();
        splitter.push(text, &mut out);
        out.extend(splitter.take_part());
        out.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn colours_titles_and_character_sets_are_stripped() {
        assert_eq!(strip(&[b"\x1b[0;1;31mred\x1b[0m\tplain\x1b(B\x1b=!"]), "red\tplain!");
        assert_eq!(strip(&[b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1bPdcs\x1b\\d"]), "abcd");
        assert_eq!(strip(&[b"bell\x07 back\x08 nul\0 del\x7f."]), "bell back nul del.");
    }

    #[test]
    fn a_sequence_split_over_two_pushes_is_stripped() {
        assert_eq!(strip(&[b"a\x1b", b"[3", b"1mb\x1b]0;ti", b"tle\x1b", b"\\c"]), "abc");
    }

    #[test]
    fn an_unfinished_sequence_does_not_swallow_the_next_line() {
        assert_eq!(strip(&[b"a\x1b]0;never ended\nb\x1b[31\nc"]), "a\nb\nc");
        let mut long = b"\x1b]".to_vec();
        long.extend(std::iter::repeat_n(b'x', STRING_MAX));
        long.extend(b"shown");
        assert!(strip(&[&long]).ends_with("hown"));
    }

    #[test]
    fn cursor_positioning_separates_lines() {
        let text = strip(&[b"\x1b[2J\x1b[1;1Hfirst\x1b[2;1Hsecond"]);
        assert_eq!(lines(&text), ["first", "second"]);
    }

    #[test]
    fn characters_split_over_two_pushes_are_decoded() {
        assert_eq!(strip(&["€".as_bytes().split_at(1).0, "€".as_bytes().split_at(1).1]), "€");
        assert_eq!(strip(&[b"a\xffb", b"\xe2\x82", b"z"]), "a\u{fffd}b\u{fffd}z");
    }

    #[test]
    fn all_kinds_of_line_ends_separate_lines() {
        assert_eq!(lines("a\nb\r\nc\rd\r\r\ne\n\rf"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(lines("a\n\nb\r\n\r\nc"), ["a", "", "b", "", "c"]);
    }

    #[test]
    fn a_part_given_out_early_is_continued() {
        let mut splitter = LineSplitter::new();
        let mut out = Vec::new();
        splitter.push("login: ", &mut out);
        out.extend(splitter.take_part());
        splitter.push("root\nnext\n", &mut out);
        let seen: Vec<_> = out.iter().map(|line| (line.text.as_str(), line.continued)).collect();
        assert_eq!(seen, [("login: ", false), ("root", true), ("next", false)]);
    }

    #[test]
    fn a_part_followed_by_nothing_but_its_line_end_gives_no_empty_line() {
        let mut splitter = LineSplitter::new();
        let mut out = Vec::new();
        splitter.push("done", &mut out);
        out.extend(splitter.take_part());
        splitter.push("\r\nnext\n", &mut out);
        let seen: Vec<_> = out.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(seen, ["done", "next"]);
    }

    #[test]
    fn a_very_long_line_is_split_into_continued_parts() {
        let mut splitter = LineSplitter::new();
        let mut out = Vec::new();
        splitter.push(&"x".repeat(LINE_MAX * 2 + 5), &mut out);
        splitter.push("\n", &mut out);
        let seen: Vec<_> = out.iter().map(|line| (line.text.len(), line.continued)).collect();
        assert_eq!(seen, [(LINE_MAX, false), (LINE_MAX, true), (5, true)]);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_text(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0x1b_u8), Just(b'['), Just(b']'), Just(b'\r'), Just(b'\n'), any::<u8>()],
                0..200,
            ),
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(strip(&[&bytes]), strip(&[&bytes[..cut], &bytes[cut..]]));
        }

        #[test]
        fn no_control_character_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = strip(&[&bytes]);
            prop_assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')));
        }
    }
}
