//! A name as the DNS has it.

use std::fmt;

use thiserror::Error;

use crate::LABEL_MAX;

/// The longest name, in characters (RFC 1035, section 2.3.4, less the length of each label's own).
const NAME_MAX: usize = 253;

/// A whole name: in lower case, without the final dot. Its first label may be `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

/// A text that is no name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{text:?} is no DNS name: {why}\nhint: labels have 1 to {LABEL_MAX} of a-z, 0-9, '-' and '_', and dots between them; `*` is the first, `@` the last"
)]
pub struct DnsNameError {
    text: String,
    why: &'static str,
}

impl DnsName {
    /// A name as a person writes it: one of one label is of the domain, a last label `@` stands for the
    /// domain, everything else is whole.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(text: &str, domain: &str) -> Result<Self, DnsNameError> {
        let error = |why| DnsNameError { text: text.chars().take(NAME_MAX).collect(), why };
        let is_whole = text.ends_with('.');
        let bare = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = match bare.strip_suffix('@').map(|before| before.strip_suffix('.').unwrap_or(before)) {
            Some("") => domain.to_owned(),
            Some(before) => format!("{before}.{domain}"),
            None if bare.contains('.') || is_whole => bare,
            None => format!("{bare}.{domain}"),
        };
        if name.len() > NAME_MAX {
            return Err(error("it is longer than 253 characters"));
        }
        for (index, label) in name.split('.').enumerate() {
            let is_wildcard = label == "*" && index == 0;
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            let why = match label {
                "" => "a label is empty",
                label if label.len() > LABEL_MAX => "a label is longer than 63 characters",
                _ if is_wildcard => continue,
                label if label.starts_with('-') || label.ends_with('-') => "a label begins or ends with '-'",
                label if !label.chars().all(fits) => "it has a character that is not for names",
                _ => continue,
            };
            return Err(error(why));
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.") || self.0 == "*"
    }

    /// A name that was derived, and so is one.
    pub(super) fn derived(name: String) -> Self {
        Self(name)
    }

    /// The names above it, the nearest first, down to its last label.
    pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
        std::iter::successors(name.split_once('.').map(|(_, parent)| parent), |name| {
            name.split_once('.').map(|(_, parent)| parent)
        })
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let name = DnsName::parse(text, "g.test").map_err(|error| error.to_string())?;
        Ok(name.to_string())
    }

    #[test]
    fn a_name_of_one_label_is_of_the_domain_and_others_are_whole() {
        for (text, name) in [
            ("api", "api.g.test"),
            ("API", "api.g.test"),
            ("api.", "api"),
            ("*", "*.g.test"),
            ("@", "g.test"),
            ("*.apps.@", "*.apps.g.test"),
            ("*.apps.@.", "*.apps.g.test"),
            ("Registry.Example.com", "registry.example.com"),
            ("registry.example.com.", "registry.example.com"),
            ("_acme-challenge.x.y", "_acme-challenge.x.y"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let long = "a".repeat(64);
        let longer = vec!["a".repeat(60); 5].join(".");
        for text in
            ["", ".", "a..b", "-a.b", "a-.b", "a b", "a.*.b", "é", "a/b", "fd00::1", "@.b", &long, &longer]
        {
            let error = parsed(text).expect_err(text);
            assert!(error.contains("is no DNS name") && error.contains("hint:"), "{error}");
        }
    }
}
