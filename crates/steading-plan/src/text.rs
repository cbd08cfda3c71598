//! Text from outside, made safe to show: on a terminal, in a file that is read by lines, in XML.
//!
//! Guests, downloads and users choose bytes that people and programs read later. A control character moves the
//! cursor or forges a line, a bidirectional override shows text in another order than it has, and XML
//! has no way at all to hold some characters. Every text that may hold such a character passes through here, where
//! it becomes visible as an escape such as `\u{1b}`.

use std::borrow::Cow;
use std::fmt;

/// How much of a value an error quotes, in characters.
const QUOTED_MAX: usize = 80;

/// Whether a character must not be shown as it is: it is no tab and changes how what is around it is shown, ends a
/// line, or is none that XML 1.0 can hold (section 2.2).
pub const fn is_unsafe(character: char) -> bool {
    let code = character as u32;
    let is_control = matches!(code, 0..=0x1f | 0x7f..=0x9f);
    // Marks and overrides of direction (UAX #9, section 2), separators of lines and paragraphs.
    let is_of_layout = matches!(code, 0x061c | 0x200e | 0x200f | 0x2028..=0x202e | 0x2066..=0x2069);
    // Annotations and tags.
    let has_no_look = matches!(code, 0xfff9..=0xfffb | 0xe0000..=0xe007f);
    // Unicode, section 23.7.
    let is_noncharacter = matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    character != '\t' && (is_control || is_of_layout || has_no_look || is_noncharacter)
}

/// The text as one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The text as lines, which `\n` ends.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character == '\n')
}

fn escaped(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |character: char| is_unsafe(character) && !keeps(character);
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push(&mut safe, character, is_escaped(character));
    }
    Cow::Owned(safe)
}

fn push(text: &mut String, character: char, is_escaped: bool) {
    match character {
        _ if !is_escaped => text.push(character),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        _ => text.extend(character.escape_unicode()),
    }
}

/// What is said of bytes that are left out has no more bytes than this.
const NOTE_MAX: usize = 48;

/// The text, or its beginning and its end where it has more than `most` bytes, with the number of bytes between
/// them. The result has no more than `most` bytes, if those have room for that number (48).
pub fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let half = most.saturating_sub(NOTE_MAX) / 2;
    let begin = (0..=half).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (text.len() - half..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Cow::Owned(format!("{} […{} bytes omitted…] {}", &text[..begin], end - begin, &text[end..]))
}

/// A value as an error quotes it: between quotation marks, safe to show, and no longer than a line.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from("\"");
        for character in self.0.chars().take(QUOTED_MAX) {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                _ => push(&mut text, character, is_unsafe(character)),
            }
        }
        if self.0.chars().nth(QUOTED_MAX).is_some() {
            text.push('…');
        }
        text.push('"');
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_overrides_and_noncharacters_are_visible() {
        assert_eq!(one_line("a\x1b[31mb\tc\r\nd"), "a\\u{1b}[31mb\tc\\r\\nd");
        assert_eq!(one_line("\u{202e}evil\u{2028}\u{fffe}\u{9b}"), "\\u{202e}evil\\u{2028}\\u{fffe}\\u{9b}");
        assert_eq!(lines("a\nb\rc"), "a\nb\\rc");
        assert!(matches!(one_line("plain €"), Cow::Borrowed("plain €")));
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text = format!("begin{}end", "é".repeat(1000));
        let short = bounded(&text, 100);
        assert!(short.starts_with("begin") && short.ends_with("end") && short.len() < 140, "{short}");
        assert!(short.contains("bytes omitted"), "{short}");
        assert_eq!(bounded("short", 100), "short");
    }

    #[test]
    fn a_quoted_value_is_no_longer_than_a_line() {
        assert_eq!(Shown("a\"b\n").to_string(), "\"a\\\"b\\n\"");
        let long = Shown(&"x".repeat(1000)).to_string();
        assert_eq!(long.chars().count(), QUOTED_MAX + 3);
    }

    proptest! {
        #[test]
        fn what_is_shown_has_no_unsafe_character(text in any::<String>(), most in 0_usize..200) {
            prop_assert!(!one_line(&text).chars().any(is_unsafe));
            prop_assert!(!lines(&text).chars().any(|c| is_unsafe(c) && c != '\n'));
            prop_assert!(!Shown(&text).to_string().chars().any(is_unsafe));
            let (long, most) = (text.repeat(20), most + NOTE_MAX);
            let short = bounded(&long, most);
            prop_assert!(short.len() <= most, "{} of {}", short.len(), most);
            prop_assert_eq!(bounded(&short, most), short.clone());
        }
    }
}
