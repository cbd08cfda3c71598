//! Rules on every file, whatever its language.

use std::{collections::BTreeSet, path::Path};

use camino::Utf8Path;
use fs_err as fs;

use super::{File, Finding, source::has_word};

/// Larger files make every clone slow, for ever.
const MAX_SIZE: u64 = 1 << 20;

/// Notes to oneself. In two parts each, since this file is checked too.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Where white space at a line's end means something, or is not ours: snapshots of output, patches.
const SPACES_MATTER: &[&str] = &["snap", "patch", "diff"];

/// Sources of packages that everyone has, so that to name them gives nothing away and breaks nothing.
const PUBLIC_HOSTS: &[&str] = &["debian.org", "crates.io", "github.com", "rust-lang.org"];

/// Names that mean something on this machine only, and so must not be in what is committed.
#[derive(Default)]
pub(super) struct Foreign {
    /// The directory of the clone. One of a single component (`/src`) would be found everywhere.
    root: Option<String>,
    /// Hosts that this machine has its packages from.
    mirrors: BTreeSet<String>,
}

impl Foreign {
    pub(super) fn of_this_machine(root: &Utf8Path) -> Foreign {
        let mut mirrors = BTreeSet::new();
        for text in configurations() {
            mirrors.extend(hosts(&text));
        }
        Foreign { root: (root.components().count() > 2).then(|| root.to_string()), mirrors }
    }
}

/// What names this machine's package mirrors: apt's sources and cargo's registries.
fn configurations() -> Vec<String> {
    let mut texts: Vec<String> = ["/etc/apt/sources.list", "/etc/pip.conf"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    for directory in ["/etc/apt/sources.list.d", "/etc/apt/apt.conf.d"] {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        texts.extend(entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()));
    }
    if let Some(home) = std::env::var_os("CARGO_HOME").or_else(|| std::env::var_os("HOME")) {
        for name in ["config.toml", ".cargo/config.toml"] {
            texts.extend(fs::read_to_string(Path::new(&home).join(name)));
        }
    }
    texts
}

/// The hosts of all URLs in a text that are not public ones.
fn hosts(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let urls = lines.flat_map(|line| line.split("://").skip(1));
    urls.filter_map(|url| {
        let authority = url.split(['/', '"', '\'', ' ', ';', '>']).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        let is_public = PUBLIC_HOSTS.iter().any(|public| {
            host.strip_suffix(public).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        (host.contains('.') && !is_public).then(|| host.to_owned())
    })
}

/// What is wrong with one file.
pub(super) fn check(file: &File, foreign: &Foreign) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.size > MAX_SIZE {
        findings
            .push(Finding::of(file, format!("{} bytes, and no file in git has more than 1 MiB", file.size)));
        return findings;
    }
    let spaces_matter = SPACES_MATTER.iter().any(|&kind| file.path.extension() == Some(kind));
    for (at, line) in file.text().lines().enumerate() {
        let mut found = |what: String| findings.push(Finding::at(file, at + 1, what));
        if let Some(marker) = MARKERS.iter().find(|marker| has_word(line, marker)) {
            found(format!("{marker} is a note to oneself; make it an issue, or say it as a limit"));
        }
        if !spaces_matter && line.ends_with([' ', '\t']) {
            found("white space at the end of a line".to_owned());
        }
        if let Some(root) = foreign.root.as_ref().filter(|root| has_path(line, root)) {
            found(format!("{root} is where this clone happens to be"));
        }
        if let Some(host) = foreign.mirrors.iter().find(|host| has_word(line, host)) {
            found(format!("{host} is this machine's source of packages, not everyone's"));
        }
    }
    findings
}

/// Whether an absolute path is named: by itself or with more below it, but not as the end or the
/// beginning of another.
fn has_path(line: &str, path: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        !before.is_some_and(|c| joins(c) || c == '/') && !after.is_some_and(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign() -> Foreign {
        Foreign {
            root: Some("/home/ada/steading".to_owned()),
            mirrors: BTreeSet::from(["mirror.example.net".to_owned()]),
        }
    }

    fn finds(path: &str, text: &str, what: &str) -> bool {
        check(&File::new(path, text), &foreign()).iter().any(|finding| finding.what.contains(what))
    }

    #[test]
    fn a_file_of_more_than_a_mebibyte_is_found() {
        let mut file = File { path: "x.img".into(), size: MAX_SIZE, text: None };
        assert!(check(&file, &foreign()).is_empty());
        file.size += 1;
        assert_eq!(check(&file, &foreign()).len(), 1);
    }

    #[test]
    fn notes_to_oneself_are_found_as_whole_words() {
        for marker in MARKERS {
            assert!(finds("guest/build", &format!("# {marker}: later"), marker));
            assert!(!finds("guest/build", &format!("mktemp {marker}{marker}"), marker));
        }
    }

    #[test]
    fn white_space_at_the_end_is_found_but_not_in_snapshots() {
        assert!(finds("README.md", "a \n", "white space"));
        assert!(finds("guest/build", "a\t\n", "white space"));
        assert!(!finds("crates/x/src/a.snap", "a \n", "white space"));
    }

    #[test]
    fn the_clones_own_directory_is_found() {
        for text in ["cd /home/ada/steading", "\"/home/ada/steading/crates\"", "(/home/ada/steading)"] {
            assert!(finds("README.md", text, "/home/ada/steading"), "{text}");
        }
        for text in ["/mnt/home/ada/steading", "/home/ada/steading-2", "x/home/ada/steading"] {
            assert!(!finds("README.md", text, "/home/ada/steading"), "{text}");
        }
    }

    #[test]
    fn a_root_of_one_component_is_not_looked_for() {
        assert_eq!(Foreign::of_this_machine("/src".into()).root, None);
    }

    #[test]
    fn this_machines_mirrors_are_found() {
        assert!(finds("guest/build", "deb http://mirror.example.net/debian x", "mirror.example.net"));
        assert!(!finds("guest/build", "deb http://amirror.example.net/debian x", "mirror.example.net"));
    }

    #[test]
    fn mirrors_are_read_from_urls_and_public_ones_are_not_foreign() {
        let text = "deb http://mirror.debian.org/debian x\n# http://comment.example.net\n\
                    Acquire::http::Proxy \"http://ada:secret@proxy.example.net:3142/\";\n";
        assert_eq!(hosts(text).collect::<Vec<_>>(), ["proxy.example.net"]);
    }
}
