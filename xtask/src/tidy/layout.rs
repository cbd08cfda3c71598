//! Rules on how files stand together: every crate has the lints, every page is linked.

use camino::{Utf8Path, Utf8PathBuf};

use super::{File, Finding};

/// What is wrong with the repository as a whole.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().filter_map(lints).collect();
    findings.extend(unlinked_pages(files));
    findings.extend(pages_out_of_the_book(files));
    findings.extend(broken_links(files));
    findings
}

/// Without these two lines a crate has none of the workspace's lints.
fn lints(file: &File) -> Option<Finding> {
    if file.path.file_name() != Some("Cargo.toml") || !has_table(file.text(), "package") {
        return None;
    }
    let has = table(file.text(), "lints").any(|line| line.replace(' ', "") == "workspace=true");
    (!has).then(|| Finding::of(file, "a crate has `[lints]` with `workspace = true`"))
}

fn has_table(toml: &str, name: &str) -> bool {
    toml.lines().any(|line| is_header(line, name))
}

fn is_header(line: &str, name: &str) -> bool {
    let header = line.split('#').next().unwrap_or_default().trim();
    header.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim) == Some(name)
}

/// The lines of one table of a manifest.
pub(super) fn table<'a>(toml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    toml.lines()
        .skip_while(move |line| !is_header(line, name))
        .skip(1)
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .take_while(|line| !line.starts_with('['))
}

/// A page that nothing leads to is read by nobody.
fn unlinked_pages(files: &[File]) -> Vec<Finding> {
    let Some(architecture) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return Vec::new();
    };
    let is_page =
        |path: &Utf8Path| path.parent() == Some("docs/design".into()) && path.extension() == Some("md");
    let pages = files.iter().filter(|file| is_page(&file.path));
    let unlinked = pages.filter(|page| !links_to(architecture.text(), &page.path));
    unlinked.map(|page| Finding::of(page, "no link of ARCHITECTURE.md leads here")).collect()
}

/// A page that the book's table of contents does not list is no part of the book.
fn pages_out_of_the_book(files: &[File]) -> Vec<Finding> {
    const CONTENTS: &str = "docs/SUMMARY.md";
    let Some(contents) = files.iter().find(|file| file.path == CONTENTS) else { return Vec::new() };
    let pages = files.iter().filter(|file| file.path.extension() == Some("md") && file.path != CONTENTS);
    pages
        .filter_map(|page| Some((page, page.path.strip_prefix("docs").ok()?)))
        .filter(|(_, path)| !links_to(contents.text(), path))
        .map(|(page, _)| Finding::of(page, format!("{CONTENTS} does not list it")))
        .collect()
}

/// Links between files of the repository that lead nowhere.
fn broken_links(files: &[File]) -> Vec<Finding> {
    let is_there = |path: &Utf8Path| files.iter().any(|file| file.path.starts_with(path));
    let mut findings = Vec::new();
    for page in files.iter().filter(|file| file.path.extension() == Some("md")) {
        for (at, line) in page.text().lines().enumerate() {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
            let ours = links.filter(|link| !link.is_empty() && !link.contains(':'));
            for link in ours.filter(|link| !is_there(&resolve(&page.path, link))) {
                findings.push(Finding::at(page, at + 1, format!("the link to {link} leads nowhere")));
            }
        }
    }
    findings
}

/// Where a relative link of a page leads.
fn resolve(page: &Utf8Path, link: &str) -> Utf8PathBuf {
    let mut path = page.parent().unwrap_or_else(|| "".into()).to_owned();
    for part in link.split('/') {
        match part {
            ".." => _ = path.pop(),
            "" | "." => {}
            name => path.push(name),
        }
    }
    path
}

/// `](docs/design/x.md)`, also with a section, or `[x]: docs/design/x.md`.
fn links_to(text: &str, path: &Utf8Path) -> bool {
    text.match_indices(path.as_str()).any(|(at, _)| {
        let before = text[..at].trim_end_matches("./");
        let after = text[at + path.as_str().len()..].chars().next();
        (before.ends_with("](") && matches!(after, Some(')' | '#')))
            || (before.ends_with("]: ") && after.is_none_or(|c| c.is_whitespace() || c == '#'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let manifest = "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n\n[dependencies]\n";
        assert_eq!(lints(&File::new("crates/x/Cargo.toml", manifest)), None);
        for wrong in ["workspace = false", "", "# workspace = true", "[dependencies]\nworkspace = true"] {
            let manifest = manifest.replace("workspace = true", wrong);
            assert!(lints(&File::new("crates/x/Cargo.toml", &manifest)).is_some(), "{wrong}");
        }
        assert!(lints(&File::new("crates/x/Cargo.toml", "[package]\nname = \"x\"\n")).is_some());
    }

    #[test]
    fn the_workspace_itself_is_no_crate() {
        assert_eq!(lints(&File::new("Cargo.toml", "[workspace]\nmembers = []\n")), None);
    }

    #[test]
    fn a_page_that_nothing_leads_to_is_found() {
        let page = || File::new("docs/design/fork.md", "# Fork\n");
        let check =
            |architecture: &str| unlinked_pages(&[page(), File::new("ARCHITECTURE.md", architecture)]).len();
        assert_eq!(check("See [fork](docs/design/fork.md)."), 0);
        assert_eq!(check("See [fork](./docs/design/fork.md#why)."), 0);
        assert_eq!(check("See [fork].\n\n[fork]: docs/design/fork.md\n"), 0);
        assert_eq!(check("See docs/design/fork.md and [x](docs/design/fork.md.old)."), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let broken = |link: &str| {
            let page = File::new(
                "docs/guide/first.md",
                &format!("See [it]({link}) and [x](https://example.org/y).\n"),
            );
            broken_links(&[page, File::new("docs/concepts.md", "# Concepts\n")]).len()
        };
        assert_eq!((broken("../concepts.md"), broken("../concepts.md#words"), broken("#here")), (0, 0, 0));
        assert_eq!((broken("first.md"), broken("..")), (0, 0));
        assert_eq!((broken("concepts.md"), broken("../../concepts.md")), (1, 1));
    }

    #[test]
    fn a_page_that_the_book_does_not_list_is_found() {
        let page = || File::new("docs/guide/first.md", "# First\n");
        let check =
            |contents: &str| pages_out_of_the_book(&[page(), File::new("docs/SUMMARY.md", contents)]).len();
        assert_eq!(check("- [First](guide/first.md)\n"), 0);
        assert_eq!(check("- [First](first.md)\n"), 1);
    }

    #[test]
    fn without_an_architecture_there_is_nothing_to_link_from() {
        assert!(check(&[File::new("docs/design/fork.md", "# Fork\n")]).is_empty());
    }
}
