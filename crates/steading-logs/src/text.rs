//! The searchable end of a console.
//!
//! Waiting for a pattern on a console has to see the last line before it ends, since a login prompt
//! never does, and has to know where to look from: the start of this boot, or what came after some
//! earlier moment. So the stripped text is kept with absolute offsets, which never change their
//! meaning, though only its end is kept.

use regex::{Regex, RegexBuilder};

/// How much of the end of a console is kept for searching, in bytes.
pub const TEXT_KEPT: usize = 1024 * 1024;

/// How far before the text already searched a repeated search begins again, in bytes: a match may
/// begin in text that was there before.
const OVERLAP: u64 = 4096;

/// A pattern found on a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextMatch {
    /// The absolute offset where it begins.
    pub start: u64,
    /// The absolute offset after it: where to look for what comes next.
    pub end: u64,
    /// What matched.
    pub text: String,
    /// The capture groups, from 1; those that took no part are `None`.
    pub groups: Vec<Option<String>>,
}

/// The end of a console's stripped text, known by absolute offsets.
#[derive(Debug)]
pub struct ConsoleText {
    text: String,
    start: u64,
    kept: usize,
}

impl Default for ConsoleText {
    fn default() -> Self {
        Self::new(TEXT_KEPT)
    }
}

impl ConsoleText {
    /// An empty text of which the last `kept` bytes will be there to search.
    pub fn new(kept: usize) -> Self {
        Self { text: String::new(), start: 0, kept }
    }

    /// Appends `text`.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        // Cutting only after a quarter more keeps the cost of each byte constant.
        if self.text.len() > self.kept + self.kept / 4 {
            let cut = ceil_boundary(&self.text, self.text.len() - self.kept);
            self.text.drain(..cut);
            self.start += cut as u64;
        }
    }

    /// The absolute offset after the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.text.len() as u64
    }

    /// The absolute offset of the first byte that is still kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What is kept of the text from the absolute offset `from` on.
    pub fn since(&self, from: u64) -> &str {
        let skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        &self.text[ceil_boundary(&self.text, skip.min(self.text.len()))..]
    }

    /// The first match of `regex` at or after the absolute offset `from`.
    ///
    /// `^` means the offset itself unless the pattern says `(?m)`.
    pub fn find(&self, regex: &Regex, from: u64) -> Option<TextMatch> {
        let searched = self.since(from);
        let base = self.end() - searched.len() as u64;
        let captures = regex.captures(searched)?;
        let whole = captures.get(0)?;
        let groups = captures.iter().skip(1).map(|group| group.map(|m| m.as_str().to_owned())).collect();
        Some(TextMatch {
            start: base + whole.start() as u64,
            end: base + whole.end() as u64,
            text: whole.as_str().to_owned(),
            groups,
        })
    }

    fn line_start_before(&self, offset: u64) -> u64 {
        let within = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let before = &self.text[..ceil_boundary(&self.text, within.min(self.text.len()))];
        self.start + before.rfind('\n').map_or(0, |at| at as u64 + 1)
    }
}

/// The first character boundary of `text` at or after `index`, which is at most its length.
fn ceil_boundary(text: &str, index: usize) -> usize {
    (index..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// A wait for a pattern that is asked again whenever text has come.
///
/// It remembers how far it has looked, so waiting long costs no more than the text that comes;
/// hence a match that spans more than 4 KiB of text arriving in pieces can be missed.
#[derive(Debug)]
pub struct TextWait {
    regex: Regex,
    from: u64,
    searched: u64,
}

impl TextWait {
    /// A wait for `pattern` at or after the absolute offset `from`. `^` and `$` mean the ends of
    /// lines; `$` also matches at the end of what has come so far.
    ///
    /// # Errors
    ///
    /// When `pattern` is no regular expression.
    pub fn new(pattern: &str, from: u64) -> Result<Self, regex::Error> {
        let regex = RegexBuilder::new(pattern).multi_line(true).build()?;
        Ok(Self { regex, from, searched: from })
    }

    /// The pattern, as it was given.
    pub fn pattern(&self) -> &str {
        self.regex.as_str()
    }

    /// Looks at what has come since.
    pub fn look(&mut self, text: &ConsoleText) -> Option<TextMatch> {
        let again = text.line_start_before(self.searched.saturating_sub(OVERLAP));
        let found = text.find(&self.regex, again.max(self.from));
        self.searched = text.end();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_keep_their_meaning_when_the_beginning_is_cut() {
        let mut text = ConsoleText::new(100);
        for _ in 0..50 {
            text.push("0123456789");
        }
        let mark = text.end();
        assert_eq!(mark, 500);
        assert!(text.start() >= 375 && text.since(0).len() <= 125);
        text.push("needle");
        let found = text.find(&Regex::new("needle").expect("pattern"), mark).expect("found");
        assert_eq!((found.start, found.end), (500, 506));
        assert_eq!(text.find(&Regex::new("needle").expect("pattern"), 501), None);
    }

    #[test]
    fn the_cut_never_splits_a_character() {
        let mut text = ConsoleText::new(10);
        for _ in 0..20 {
            text.push("€€");
        }
        assert!(text.since(0).chars().all(|c| c == '€'));
        assert_eq!(text.since(text.end() - 2), "");
    }

    #[test]
    fn a_wait_sees_a_match_that_arrives_in_pieces() {
        let mut text = ConsoleText::default();
        let mut wait = TextWait::new("^host (login): $", 0).expect("pattern");
        text.push("booting\nhost lo");
        assert_eq!(wait.look(&text), None);
        text.push("gin: ");
        let found = wait.look(&text).expect("found");
        assert_eq!((found.start, found.text.as_str()), (8, "host login: "));
        assert_eq!(found.groups, [Some("login".to_owned())]);
    }

    #[test]
    fn a_wait_does_not_see_what_came_before_its_offset() {
        let mut text = ConsoleText::default();
        text.push("login: ");
        let mut wait = TextWait::new("login:", text.end()).expect("pattern");
        assert_eq!(wait.look(&text), None);
        text.push("\nlogin: ");
        assert!(wait.look(&text).is_some());
    }
}
