//! Errors as text for people.

/// An error with all that caused it; advice stays at the end.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let (said, hint) = match cause.split_once("\nhint:") {
            Some((said, hint)) => (said.to_owned(), Some(hint.trim().to_owned())),
            None => (cause, None),
        };
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        hints.extend(hint);
    }
    for hint in hints {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stays_at_the_end_of_an_error_and_nothing_is_said_twice() {
        let error = anyhow::anyhow!("no such file")
            .context("cannot read x: no such file\nhint: make it")
            .context("VM a");
        assert_eq!(chain(&error), "VM a: cannot read x: no such file\nhint: make it");
    }
}
