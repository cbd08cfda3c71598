//! Code in a page that is a file of `examples/`, so that what the guide shows is what is tested.
//!
//! A line `<!-- examples/… -->` says that the fenced block after it is that file.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};

/// The page, with the files in it as they are now.
pub(super) fn insert(page: &str, read: &dyn Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let mut made = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        let Some(path) = line.strip_prefix("<!-- examples/").and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let path = format!("examples/{path}");
        let fence = lines.next().filter(|line| line.starts_with("```"));
        let fence = fence.with_context(|| format!("no fenced block follows the line that names {path}"))?;
        if !lines.by_ref().any(|line| line == "```") {
            bail!("the block of {path} does not end");
        }
        let _ = write!(made, "{fence}\n{}\n```\n", read(&path)?.trim_end());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert_file(page: &str) -> anyhow::Result<String> {
        insert(page, &|path| Ok(format!("the text of {path}\n")))
    }

    #[test]
    fn a_block_becomes_the_file_and_the_rest_stays() {
        let page = "# A\n\n<!-- examples/a.rs -->\n```rust\nold\n\nolder\n```\n\n```text\nb\n```\n";
        let made =
            "# A\n\n<!-- examples/a.rs -->\n```rust\nthe text of examples/a.rs\n```\n\n```text\nb\n```\n";
        assert_eq!(insert_file(page).unwrap(), made);
        assert_eq!(insert_file(made).unwrap(), made);
    }

    #[test]
    fn a_block_that_is_missing_or_does_not_end_is_an_error() {
        assert!(insert_file("<!-- examples/a.rs -->\ntext\n").is_err());
        assert!(insert_file("<!-- examples/a.rs -->\n```rust\ntext\n").is_err());
    }
}
