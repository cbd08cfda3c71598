//! Plain English: words that a well-edited man page does not use are refused in what people read.
//!
//! That is help, errors, hints and other strings of the product, its doc comments, and pages.

use super::{
    File, Finding, rust,
    source::{code_only, prose_only, tests_start},
};

/// Files that are not rewritten yet. One that has no such word any more must leave the list.
const NOT_YET: &[&str] = &[];

/// Words in a row, each with its alternatives, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("anew", "again"),
    ("beside", "next to, in addition to"),
    ("by way of", "through"),
    ("heed|heeds|heeded|heeding", "respect, honour"),
    ("hitherto|thereby|therein|whence|wherein|whither", "the plain words"),
    ("is|are|was|were to be had|seen|found", "is available, shown, in"),
    ("likewise", "also"),
    ("mend|mends|mended|mending", "fix"),
    ("of one's own", "your own"),
    ("pull|pulls|pulled|pulling the|its|their plug|plugs", "cut the power"),
    ("plug was|is pulled", "power was cut"),
    ("stand|stands|stood|standing still", "be paused, stop"),
    ("was|were to succeed", "must succeed"),
    ("what becomes|became of", "what happens to"),
    ("what leads|led to", "the path to, the cause of"),
    ("whoever", "anyone who"),
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    check_but_for(NOT_YET, files)
}

fn check_but_for(excused: &[&str], files: &[File]) -> Vec<Finding> {
    let of = |file: &File| {
        let found = banned(file, &prose(file));
        match (excused.iter().any(|path| file.path == *path), found.is_empty()) {
            (true, true) => {
                vec![Finding::of(file, "it is in plain English: remove it from NOT_YET of tidy/words.rs")]
            }
            (true, false) => Vec::new(),
            (false, _) => found,
        }
    };
    files.iter().flat_map(of).collect()
}

/// What people read of a file; all else is blank.
fn prose(file: &File) -> String {
    if file.path.extension() == Some("md") {
        return without_code_blocks(file.text());
    }
    let is_read = ["crates", "examples"].iter().any(|folder| file.path.starts_with(folder));
    if !file.is_rust() || !is_read || rust::is_test(&file.path) {
        return String::new();
    }
    let until = tests_start(&code_only(file.text()));
    let prose = prose_only(file.text()).replace("\\n", "  ");
    prose.lines().take(until).flat_map(|line| [line, "\n"]).collect()
}

/// A page without what stands between lines of three backticks.
fn without_code_blocks(page: &str) -> String {
    let mut is_code = false;
    let mut keep = |line: &str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    };
    page.lines().flat_map(|line| [if keep(line) { line } else { "" }, "\n"]).collect()
}

fn banned(file: &File, prose: &str) -> Vec<Finding> {
    let words: Vec<(usize, String)> = prose
        .lines()
        .enumerate()
        .flat_map(|(at, line)| words(line).map(move |word| (at + 1, word)).collect::<Vec<_>>())
        .collect();
    let mut findings = Vec::new();
    for at in 0..words.len() {
        for (pattern, instead) in BANNED {
            let length = pattern.split(' ').count();
            let Some(here) = words.get(at..at + length) else { continue };
            let is_one = |((_, word), alternatives): (&(usize, String), &str)| {
                alternatives.split('|').any(|alternative| alternative == word)
            };
            if here.iter().zip(pattern.split(' ')).all(is_one) {
                let said: Vec<&str> = here.iter().map(|(_, word)| word.as_str()).collect();
                let what = format!("\"{}\" is not plain English: write {instead}", said.join(" "));
                findings.push(Finding::at(file, here[0].0, what));
            }
        }
    }
    findings
}

/// The words of a line in lower case, without what is in backticks.
fn words(line: &str) -> impl Iterator<Item = String> {
    let plain = line.split('`').step_by(2);
    plain.flat_map(|part| {
        part.split(|c: char| !c.is_alphanumeric() && !"'_-".contains(c))
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check_but_for(&[], &[File::new(path, text)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_word_of_the_list_is_found_in_pages_docs_and_strings() {
        assert_eq!(
            found("docs/a.md", "# A\n\nIt is made Anew.\n"),
            ["docs/a.md:3: \"anew\" is not plain English: write again"]
        );
        for text in ["/// Made anew.", "//! Made anew.", "bail!(\"it failed\\nhint: make it anew\")"] {
            assert_eq!(found("crates/x/src/a.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_rewritten_leaves_the_list() {
        let files = [File::new("README.md", "Made anew."), File::new("docs/a.md", "Made again.")];
        let found = check_but_for(&["README.md", "docs/a.md"], &files);
        assert!(found.len() == 1 && found[0].path == "docs/a.md", "{found:?}");
    }

    #[test]
    fn a_phrase_is_found_across_lines() {
        let found = found("crates/x/src/a.rs", "/// Reached by way\n/// of a socket.\nfn f() {}");
        assert_eq!(found, ["crates/x/src/a.rs:1: \"by way of\" is not plain English: write through"]);
    }

    #[test]
    fn alternatives_of_a_phrase_are_found() {
        for text in ["Pulls the plug of it", "pulled their plugs", "It stood still", "what is to be had"] {
            assert_eq!(found("README.md", text).len(), 1, "{text}");
        }
        assert!(found("README.md", "Pull the socket, plug the card, by the way of it, besides").is_empty());
    }

    #[test]
    fn code_comments_and_tests_are_let_be() {
        for text in [
            "fn anew() {}",
            "// Made anew.",
            "/// See `anew`.",
            "#[cfg(test)]\nmod tests {\n f(\"anew\");\n}\n",
        ] {
            assert!(found("crates/x/src/a.rs", text).is_empty(), "{text}");
        }
        assert!(found("docs/a.md", "```\nanew\n```\n").is_empty());
        assert!(found("crates/x/tests/a.rs", "/// anew").is_empty());
        assert!(found("suites/x/src/a.rs", "/// anew").is_empty());
    }
}
