//! Errors for people: what was tried, why it failed, once each, and what to try.
//!
//! An error is an [`anyhow::Error`]; advice is attached with [`Advise::hint`] and printed last,
//! on lines of its own, whatever context was added above it.

use std::fmt;

/// Advice, as one link of an error's chain.
#[derive(Debug)]
struct Hint {
    text: String,
    source: anyhow::Error,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The advised error's own text: a hint is not a reason.
        write!(f, "{}", self.source)
    }
}

impl std::error::Error for Hint {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The source itself is shown in place of this link.
        self.source.source()
    }
}

/// Attaches advice to an error.
pub(crate) trait Advise<T> {
    /// Says what to try, should this have failed.
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Advise<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Hint { text: text.into(), source: error.into() }.into())
    }
}

/// Prints the chain once, and then the hints.
pub(crate) fn print(error: &anyhow::Error) {
    eprintln!("{}", render(error));
}

pub(crate) fn render(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut text = format!("error: {}", causes.join(": "));
    for link in error.chain() {
        let mut next = link.downcast_ref::<Hint>();
        while let Some(hint) = next {
            text.push_str("\nhint: ");
            text.push_str(&hint.text);
            next = hint.source.downcast_ref::<Hint>();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_hint_comes_last_and_no_text_comes_twice() {
        let failed: anyhow::Result<()> =
            Err(anyhow::anyhow!("no such file")).context("cannot read x").hint("make x").context("setup");
        let error = failed.expect_err("it is an error");
        assert_eq!(render(&error), "error: setup: cannot read x: no such file\nhint: make x");
    }
}
