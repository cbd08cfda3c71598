//! What differs between a page as it is and as it should be.

use std::fmt::Write as _;

/// Lines that are the same at the beginning and at the end are left out; of what is between, the old
/// lines come first.
pub(super) fn show(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("--- {name}, as it is\n+++ {name}, as it should be, from line {}\n", before + 1);
    for line in &old[before..old.len() - after] {
        let _ = writeln!(text, "-{line}");
    }
    for line in &new[before..new.len() - after] {
        let _ = writeln!(text, "+{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> Vec<String> {
        show("x.md", old, new).lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(changes("a\nb\nc\n", "a\nB\nc\n"), ["-b", "+B"]);
        assert_eq!(changes("a\n", "a\na\n"), ["+a"]);
        assert_eq!(changes("a\na\n", "a\n"), ["-a"]);
        assert_eq!(changes("", "a\n"), ["+a"]);
        assert!(show("x.md", "a\nb\n", "a\nc\n").contains("from line 2"));
    }
}
