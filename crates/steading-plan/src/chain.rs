//! Errors as text for people.

use std::error::Error;

/// An error with all that caused it, each said once; advice stays at the end.
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
        if !text.contains(said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(said);
        }
        hints.extend(hint.map(|hint| format!("\nhint: {hint}")));
        next = cause.source();
    }
    text + &hints.concat()
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

    #[test]
    fn advice_stays_at_the_end_of_an_error_and_nothing_is_said_twice() {
        assert_eq!(chain(&Vm(Read(Missing))), "VM a: cannot read x: no such file\nhint: make it");
    }
}
