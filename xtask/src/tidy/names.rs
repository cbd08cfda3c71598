//! Rules on the items of Rust sources: functions that can be read at once, and one meaning for a name.

use std::collections::BTreeMap;

use camino::Utf8Path;

use super::items::Items;
use super::{File, Finding};

/// No function is longer: who reads one sees all of it.
const FUNCTION_LINES_MAX: usize = 80;

/// Names of types that several crates or modules have on purpose, and why.
const SHARED_NAMES: &[(&str, &str)] = &[
    (
        "Failure",
        "a request to a group that failed, and the way in which a function failed: both are JSON of their own",
    ),
    ("Record", "a line of a log, and an entry of the DNS (RFC 1035, section 3.2)"),
];

/// What is wrong with functions and names.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let sources: Vec<(&File, Items)> = files
        .iter()
        .filter(|file| file.is_rust() && is_source(&file.path))
        .filter_map(|file| Some((file, Items::of(file.text())?)))
        .collect();
    let mut findings = long_functions(&sources);
    findings.extend(shared_names(&sources, SHARED_NAMES));
    findings
}

/// Neither tests in files of their own, nor what is no part of the product.
fn is_source(path: &Utf8Path) -> bool {
    let is_test = path.file_stem().is_some_and(|stem| stem.ends_with("_tests"));
    !is_test && path.components().any(|part| part.as_str() == "src")
}

fn long_functions(sources: &[(&File, Items)]) -> Vec<Finding> {
    let functions = sources.iter().flat_map(|(file, items)| {
        let long = items.functions.iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
        long.map(|(name, line, lines)| {
            let what =
                format!("`{name}` has {lines} lines, and no function has more than {FUNCTION_LINES_MAX}");
            Finding::at(file, *line, what)
        })
    });
    functions.collect()
}

fn shared_names(sources: &[(&File, Items)], allowed: &[(&str, &str)]) -> Vec<Finding> {
    let mut names: BTreeMap<&str, Vec<(&File, usize)>> = BTreeMap::new();
    let libraries = sources.iter().filter(|(file, _)| {
        file.path.starts_with("crates") && !file.path.starts_with("crates/steading-bench")
    });
    for (file, items) in libraries {
        for (name, line) in &items.types {
            names.entry(name).or_default().push((file, *line));
        }
    }
    let mut findings = Vec::new();
    for (name, places) in &names {
        let is_allowed = allowed.iter().any(|(known, _)| known == name);
        if places.len() > 1 && !is_allowed {
            let (file, line) = places[0];
            let others: Vec<&str> = places[1..].iter().map(|(file, _)| file.path.as_str()).collect();
            let what = format!(
                "a type named `{name}` is in {}, too: one name, one meaning (exceptions: SHARED_NAMES of \
                 xtask/src/tidy/names.rs)",
                others.join(", ")
            );
            findings.push(Finding::at(file, line, what));
        } else if places.len() < 2 && is_allowed {
            let what =
                format!("only one type is named `{name}`: remove it from SHARED_NAMES of tidy/names.rs");
            findings.push(Finding::of(places[0].0, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], allowed: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
        let sources: Vec<_> = files.iter().map(|file| (file, Items::of(file.text()).unwrap())).collect();
        let findings = long_functions(&sources).into_iter().chain(shared_names(&sources, allowed));
        findings.map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_function_of_more_than_80_lines_is_named() {
        let body = "    f();\n".repeat(79);
        let found = found(
            &[("crates/x/src/lib.rs", &format!("fn f() {{\n{body}}}\nfn g() {{\n{}}}\n", &body[9..]))],
            &[],
        );
        assert_eq!(found, ["crates/x/src/lib.rs:1: `f` has 81 lines, and no function has more than 80"]);
    }

    #[test]
    fn a_name_of_two_types_is_named_unless_it_is_allowed() {
        let files =
            [("crates/x/src/a.rs", "pub struct Held;"), ("crates/y/src/b.rs", "\npub(crate) enum Held {}")];
        let found_all = found(&files, &[]);
        assert_eq!(found_all.len(), 1);
        assert!(
            found_all[0].starts_with("crates/x/src/a.rs:1: a type named `Held` is in crates/y/src/b.rs"),
            "{found_all:?}"
        );
        assert!(found(&files, &[("Held", "both hold")]).is_empty());
        assert!(found(&files[..1], &[("Held", "both hold")])[0].contains("remove it"));
    }

    #[test]
    fn private_types_and_tests_share_names_as_they_like() {
        let files = [
            ("crates/x/src/a.rs", "struct Held; #[cfg(test)] mod tests { pub struct Seen; }"),
            ("crates/y/src/b.rs", "struct Held; pub struct Seen;"),
        ];
        assert!(found(&files, &[]).is_empty());
    }
}
