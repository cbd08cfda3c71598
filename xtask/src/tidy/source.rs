//! Rust source with comments and literals blanked out, so that a rule meets code only.
//!
//! Blanked means replaced by spaces: lines and columns stay. This is no parser; it knows just enough
//! of the lexical structure (comments nest, raw strings, characters against lifetimes).

use std::ops::Range;

/// Replaces comments, strings and characters with spaces.
pub(super) fn code_only(source: &str) -> String {
    let mut code = source.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = literal_or_comment(source, at);
        match end {
            Some(end) => {
                blank(&mut code, at..end);
                at = end;
            }
            // A whole word at once, or `r` at the end of `for` would start a raw string.
            None if is_word(code[at]) => {
                while at < code.len() && is_word(code[at]) {
                    at += 1;
                }
            }
            None => at += 1,
        }
    }
    // Only ASCII was put in, and only for whole characters.
    String::from_utf8(code).unwrap_or_default()
}

/// Replaces all but strings and doc comments with spaces.
pub(super) fn prose_only(source: &str) -> String {
    let mut prose = source.as_bytes().to_vec();
    let is_doc =
        |rest: &str| rest.starts_with("//!") || (rest.starts_with("///") && !rest.starts_with("////"));
    let (mut at, mut blank_from) = (0, 0);
    while at < source.len() {
        match literal_or_comment(source, at) {
            Some(end) => {
                let rest = &source[at..end];
                if is_doc(rest) {
                    blank(&mut prose, blank_from..at + 3);
                    blank_from = end;
                } else if !rest.starts_with('/') && !rest.ends_with('\'') {
                    blank(&mut prose, blank_from..at);
                    blank_from = end;
                }
                at = end;
            }
            None if is_word(source.as_bytes()[at]) => {
                while at < source.len() && is_word(source.as_bytes()[at]) {
                    at += 1;
                }
            }
            None => at += 1,
        }
    }
    blank(&mut prose, blank_from..source.len());
    String::from_utf8(prose).unwrap_or_default()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn blank(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Where the comment or literal that starts here ends; `None` when none does.
fn literal_or_comment(source: &str, start: usize) -> Option<usize> {
    let rest = source.get(start..)?;
    let length = if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if let Some(prefix) = ["r", "br", "cr"].iter().find(|&&prefix| starts_raw(rest, prefix)) {
        raw_string(rest, prefix.len())
    } else if rest.starts_with('"') {
        quoted(rest, 0, b'"')
    } else if rest.starts_with("b\"") || rest.starts_with("c\"") {
        quoted(rest, 1, b'"')
    } else if rest.starts_with("b'") {
        quoted(rest, 1, b'\'')
    } else if rest.starts_with('\'') && is_character(rest) {
        quoted(rest, 0, b'\'')
    } else {
        return None;
    };
    Some(start + length)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn starts_raw(rest: &str, prefix: &str) -> bool {
    rest.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
}

fn raw_string(rest: &str, prefix: usize) -> usize {
    let hashes = rest[prefix..].bytes().take_while(|&byte| byte == b'#').count();
    let contents = prefix + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    rest[contents..].find(&end).map_or(rest.len(), |length| contents + length + end.len())
}

/// The length of what is quoted from byte `start` on; a backslash takes the next byte along.
fn quoted(rest: &str, start: usize, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a'` or `'\n'`, and not the lifetime `'a`.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// The line, from 0, at which the unit tests at a file's end start: `#[cfg(test)]` before a `mod`
/// with a body. The number of lines if there are none.
pub(super) fn tests_start(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let starts = |at: usize| {
        let next = lines[at + 1..].iter().map(|line| line.trim()).find(|line| !line.starts_with("#["));
        lines[at].starts_with("#[cfg(test)]")
            && next.is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
    };
    (0..lines.len()).find(|&at| starts(at)).unwrap_or(lines.len())
}

/// Whether `word` occurs as a whole word.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    words_at(line, word).next().is_some()
}

/// Where `word` occurs with no letter, digit or underscore of another word beside it.
fn words_at<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |byte: Option<&u8>| byte.is_some_and(|&byte| is_word(byte));
    let bytes = line.as_bytes();
    let starts_as_word = word.bytes().next().is_some_and(is_word);
    let ends_as_word = word.bytes().last().is_some_and(is_word);
    line.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let joined_before = starts_as_word && joins(before);
        let joined_after = ends_as_word && joins(bytes.get(at + word.len()));
        !joined_before && !joined_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_blanked_and_nest() {
        assert_eq!(code_only("a // unsafe\nb"), "a          \nb");
        assert_eq!(code_only("a /* x /* y */ z */ b"), "a                   b");
        assert_eq!(code_only("//! unsafe"), "          ");
    }

    #[test]
    fn prose_is_strings_and_doc_comments() {
        assert_eq!(
            prose_only("/// Made.\nfn f() { g(\"x\"); } // no\n"),
            "    Made.\n           \"x\"          \n"
        );
        assert_eq!(prose_only("//// no\nlet a = r#\"b\"#;"), "       \n        r#\"b\"# ");
        assert_eq!(prose_only("// \"no\"\n'\"' c"), "       \n     ");
    }

    #[test]
    fn literals_are_blanked_whatever_is_in_them() {
        assert_eq!(code_only(r#"f("a \" // b") + c"#), "f(           ) + c");
        assert_eq!(code_only(r##"f(r#"a " b"#, b"x")"##), "f(          ,     )");
        assert_eq!(code_only("f('\"') g(b'\\'')"), "f(   ) g(     )");
        assert_eq!(code_only("\"ä\" b"), "     b");
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = "let a = \"one\ntwo\";\nlet b = 1; /* x\n y */ let c = 2;\n";
        let code = code_only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        assert_eq!(code.lines().nth(3), Some("      let c = 2;"));
    }

    #[test]
    fn lifetimes_and_words_that_end_in_r_are_code() {
        let source = "fn f<'a>(x: &'a str) -> Foo<'static> { for x in y {} }";
        assert_eq!(code_only(source), source);
        assert_eq!(code_only("for\"a\""), "for   ");
    }

    #[test]
    fn unit_tests_start_at_their_attribute() {
        let code = "fn a() {}\n#[cfg(test)]\nfn only() {}\n\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n";
        assert_eq!(tests_start(code), 4);
        assert_eq!(tests_start("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(has_word("tokio::time::sleep(x)", "sleep("));
        assert!(!has_word("do_sleep(x)", "sleep("));
    }
}
