//! Testnets in TOML: reading them, bringing them up, running a program in them.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_harness::{Suite, run_command};
use steading_plan::Testnet;
use steading_report::Report;

use crate::testnet_file::{self, TestnetFile};

/// A testnet and the name of its group.
pub(crate) struct Topology {
    pub(crate) group: String,
    pub(crate) testnet: Testnet,
}

/// The size of the largest file that is read, in bytes: far more than anybody writes.
const LARGEST: u64 = 4 << 20;

/// Reads a testnet. The group is named as asked for, else as the file.
pub(crate) fn read(file: &Utf8Path, group: Option<&str>) -> anyhow::Result<Topology> {
    let size = fs::metadata(file)?.len();
    anyhow::ensure!(
        size <= LARGEST,
        "{file} has {size} bytes, and a testnet at most {LARGEST}\nhint: is it the right file?"
    );
    let text = fs::read_to_string(file)?;
    let declared = parse(&text).with_context(|| format!("cannot understand {file}"))?;
    let testnet = declared.resolve(testnet_file::installed).with_context(|| format!("cannot use {file}"))?;
    let group =
        group.or(file.file_stem()).context("the file has no name\nhint: name the group with --group")?;
    Ok(Topology { group: group.to_owned(), testnet })
}

/// The error shows the place, and the nearest right word for one that is unknown.
fn parse(text: &str) -> anyhow::Result<TestnetFile> {
    toml::from_str(text).map_err(|error| {
        let said = error.to_string();
        match nearest_word(error.message()) {
            Some(word) => anyhow::anyhow!("{}\nhint: did you mean `{word}`?", said.trim_end()),
            None => anyhow::anyhow!("{}", said.trim_end().to_owned()),
        }
    })
}

/// From "unknown field `x`, expected one of `a`, `b`": the one that is most like `x`, if any is.
fn nearest_word(message: &str) -> Option<&str> {
    if !message.starts_with("unknown") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let similarity = |word: &&str| strsim::jaro_winkler(wrong, word);
    let best = quoted.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) > 0.7).then_some(best)
}

/// The schema of such files (JSON Schema, draft 2020-12).
pub(crate) fn schema() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(TestnetFile))?)
}

pub(crate) fn up(
    file: &Utf8Path,
    group: Option<&str>,
    out: Option<Utf8PathBuf>,
    warm: bool,
) -> anyhow::Result<u8> {
    let Topology { group, testnet } = read(file, group)?;
    let suite = Suite::new(group).testnet(move || Ok(testnet.clone()));
    Ok(suite.up(out, warm, &Report::new()))
}

pub(crate) fn run(
    file: &Utf8Path,
    group: Option<&str>,
    out: Option<&Utf8Path>,
    warm: bool,
    command: &[String],
) -> anyhow::Result<u8> {
    let Topology { group, testnet } = read(file, group)?;
    Ok(run_command(&group, &testnet, out, warm, command, &Report::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_place_and_the_nearest_right_word() {
        let error = parse("[[vm]]\nname = \"n1\"\nvcpu = 2\nboot = \"bios\"\n").unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
        assert!(error.ends_with("hint: did you mean `vcpus`?"), "{error}");
    }

    /// Made by `steading schema >docs/testnet.schema.json`.
    #[test]
    fn the_published_schema_is_that_of_this_version() {
        let published = include_str!("../../../docs/testnet.schema.json");
        assert_eq!(published.trim_end(), schema().unwrap());
    }

    #[test]
    fn what_is_like_no_right_word_gets_no_guess() {
        let error = parse("[[vm]]\nname = \"n1\"\nzzz = 2\n").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
        assert!(parse("[[vm]").unwrap_err().to_string().contains("line 1"));
    }
}
