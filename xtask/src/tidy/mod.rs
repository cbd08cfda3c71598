//! `cargo xtask tidy`: rules of the repository that no compiler and no lint knows.
//!
//! A rule is a function from a file, or from all of them, to [`Finding`]s, so each has a test that
//! it can fail. An exception is an entry in a list, with its reason.

mod circles;
mod dependencies;
mod items;
mod layout;
mod names;
mod rust;
mod source;
mod text;
mod words;

use std::{fmt, process::ExitCode};

use anyhow::bail;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

use crate::{checkout, place};

/// A file of the repository.
struct File {
    /// Relative to the root.
    path: Utf8PathBuf,
    size: u64,
    /// `None`: it is not UTF-8, or it is no regular file.
    text: Option<String>,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.extension() == Some("rs")
    }

    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    #[cfg(test)]
    fn new(path: &str, text: &str) -> File {
        File { path: path.into(), size: text.len() as u64, text: Some(text.to_owned()) }
    }
}

/// Something that a rule forbids.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: Utf8PathBuf,
    /// From 1; `None`: the file as a whole.
    line: Option<usize>,
    what: String,
}

impl Finding {
    fn of(file: &File, what: impl Into<String>) -> Finding {
        Finding { path: file.path.clone(), line: None, what: what.into() }
    }

    fn at(file: &File, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: file.path.clone(), line: Some(line), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// The command `tidy`.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what is found in the clone; an error if that is anything.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = place::clone();
    let files = read(&root)?;
    let findings = find(&files, &text::Foreign::of_this_machine(&root));
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy found something that is not in order"),
        count => bail!("tidy found {count} things that are not in order"),
    }
}

fn read(root: &Utf8Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for path in checkout::files(root)? {
        let metadata = fs::symlink_metadata(root.join(&path))?;
        let text =
            if metadata.is_file() { String::from_utf8(fs::read(root.join(&path))?).ok() } else { None };
        files.push(File { path, size: metadata.len(), text });
    }
    Ok(files)
}

fn find(files: &[File], foreign: &text::Foreign) -> Vec<Finding> {
    let mut findings = layout::check(files);
    findings.extend(rust::check_exceptions(files));
    findings.extend(circles::check(files));
    findings.extend(names::check(files));
    findings.extend(dependencies::check(files));
    findings.extend(words::check(files));
    for file in files {
        findings.extend(text::check(file, foreign));
        if file.is_rust() {
            findings.extend(rust::check(file));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where() {
        let file = File::new("crates/x/src/lib.rs", "");
        assert_eq!(Finding::at(&file, 3, "a sleep").to_string(), "crates/x/src/lib.rs:3: a sleep");
        assert_eq!(Finding::of(&file, "too long").to_string(), "crates/x/src/lib.rs: too long");
    }

    #[test]
    fn all_rules_are_asked() {
        let files = [
            File::new("crates/x/src/lib.rs", "fn f() { unsafe { g() } } \n"),
            File::new("crates/x/Cargo.toml", "[package]\n"),
        ];
        let findings = find(&files, &text::Foreign::default());
        let has = |what: &str| findings.iter().any(|finding| finding.what.contains(what));
        assert!(has("unsafe") && has("white space") && has("lints") && has("//!"), "{findings:?}");
    }
}
