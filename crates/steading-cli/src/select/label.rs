//! Labels of Bazel's targets, as lists of them have them ("Labels", bazel.build/concepts/labels).

use std::fmt;

use anyhow::{bail, ensure};

/// A target of the main repository: `//package:name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    package: String,
    name: String,
}

/// What may stand before `//` in a label of the main repository.
const OURS: [&str; 3] = ["", "@", "@@"];

impl Label {
    /// Whether this is a label of another repository.
    pub(crate) fn is_foreign(text: &str) -> bool {
        text.starts_with('@')
            && text.split_once("//").is_some_and(|(repository, _)| !OURS.contains(&repository))
    }

    /// Reads one. `//a/b` is `//a/b:b`; `@//a` and `@@//a` are targets of the main repository, too.
    ///
    /// # Errors
    ///
    /// When it is none, or of another repository.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((repository, path)) = text.split_once("//") else {
            bail!(
                "{text:?} is not a label: it has no //\nhint: give targets, as `bazel query` prints them, not files"
            );
        };
        ensure!(OURS.contains(&repository), "{text:?} is in another repository");
        let (package, name) = match path.split_once(':') {
            Some((package, name)) => (package, name),
            None => (path, path.rsplit('/').next().unwrap_or(path)),
        };
        ensure!(
            !name.is_empty() && !name.contains([':', ' ']),
            "{text:?} is not a label: it names no target"
        );
        ensure!(!name.contains("...") && !package.contains("..."), "{text:?} is a pattern, not a label");
        Ok(Self { package: package.to_owned(), name: name.to_owned() })
    }

    /// The target in the same package whose name ends in `to` in place of `from`.
    pub(crate) fn sibling(&self, from: &str, to: &str) -> Option<Self> {
        let stem = self.name.strip_suffix(from)?;
        Some(Self { package: self.package.clone(), name: format!("{stem}{to}") })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "//{}:{}", self.package, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_in_all_their_forms_are_the_same() {
        for text in ["//a/b:b", "//a/b", "@//a/b", "@@//a/b:b"] {
            assert_eq!(Label::parse(text).unwrap().to_string(), "//a/b:b", "{text}");
        }
        assert_eq!(Label::parse("//:health_local").unwrap().to_string(), "//:health_local");
    }

    #[test]
    fn what_is_no_target_of_this_repository_is_refused() {
        assert!(Label::is_foreign("@other//a:b") && !Label::is_foreign("@@//a:b"));
        for (text, why) in [
            ("a/b.rs", "hint: give targets"),
            ("@other//a:b", "another repository"),
            ("//a:", "names no target"),
            ("//a/...", "a pattern"),
            ("//", "names no target"),
        ] {
            let error = Label::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_sibling_differs_by_its_suffix() {
        let local = Label::parse("//a:x_local").unwrap();
        assert_eq!(local.sibling("_local", "_farm").unwrap().to_string(), "//a:x_farm");
        assert_eq!(local.sibling("_local", "").unwrap().to_string(), "//a:x");
        assert_eq!(local.sibling("_farm", ""), None);
    }
}
