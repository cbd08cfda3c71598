//! Errors as text for people.

use std::error::Error;

use crate::text::{bounded, lines};

/// How much is said of an error, in bytes; what a program or a guest said may be in it.
const SAID_MAX: usize = 16 << 10;

/// How much is said of one cause.
const CAUSE_MAX: usize = 8 << 10;

/// An error with all that caused it, each said once; advice stays at the end. It is safe to show, and of bounded
/// size.
pub fn chain(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        let (said, hint) = match said.split_once("\nhint:") {
            Some((said, hint)) => (said, Some(hint.trim())),
            None => (said.as_str(), None),
        };
        let said = bounded(said, CAUSE_MAX);
        let said = lines(&said);
        if !text.contains(&*said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        hints.extend(hint.map(|hint| format!("\nhint: {}", lines(&bounded(hint, CAUSE_MAX)))));
        next = cause.source();
    }
    bounded(&text, SAID_MAX).into_owned() + &hints.concat()
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("no such file")]
    struct Missing;

    #[derive(Debug, Error)]
    #[error("cannot read x: no such file\nhint: make it")]
    struct Read(#[source] Missing);

    #[derive(Debug, Error)]
    #[error("VM a")]
    struct Vm(#[source] Read);

    #[derive(Debug, Error)]
    #[error("the guest said {0}")]
    struct Guest(String);

    #[test]
    fn an_error_with_much_in_it_is_bounded_and_safe_to_show() {
        let said = chain(&Guest(format!("\x1b[2J{}\u{202e}end", "x".repeat(192 << 10))));
        assert!(said.len() < SAID_MAX && said.contains("bytes omitted"), "{} bytes", said.len());
        assert!(said.starts_with("the guest said \\u{1b}[2Jxxx") && said.ends_with("\\u{202e}end"));
    }

    #[test]
    fn advice_stays_at_the_end_of_an_error_and_nothing_is_said_twice() {
        assert_eq!(chain(&Vm(Read(Missing))), "VM a: cannot read x: no such file\nhint: make it");
    }
}
