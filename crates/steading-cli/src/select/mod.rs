//! `steading select`: of the system tests that run on one machine, which to run for a change, and which
//! to leave for the night.
//!
//! Continuous integration knows which targets a change concerns, and which of them it has selected.
//! A local test is a smoke test of its sibling on the farm: it is run when that is.

mod label;

use std::collections::BTreeSet;
use std::io::Read as _;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use fs_err as fs;
use label::Label;
use serde::Serialize;
use steading_harness::exit_code;
use steading_report::output::println;

/// What the rules append to a test's name for its target on this machine, and for that on a farm.
const LOCAL: &str = "_local";
const FARM: &str = "_farm";

/// In place of a file: standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Args)]
pub(crate) struct Arguments {
    /// File with all local tests, one label per line: the output of `bazel query 'attr(tags,
    /// "\blocal_system_test\b", //...)'`.
    #[arg(long, value_name = "FILE")]
    local: Utf8PathBuf,
    /// File with the targets that are selected or affected by the change, one label per line; `-` for
    /// standard input. A test counts under its own name and under that of its target on the farm.
    #[arg(long, value_name = "FILE", default_value = STANDARD_INPUT)]
    selected: Utf8PathBuf,
    /// Also select a local test by its own label, so that a change runs the tests that it affects even if
    /// their siblings on the farm are not selected.
    #[arg(long)]
    own: bool,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Part::Both)]
    print: Part,
    /// Print JSON: `{"smoke": [...], "night": [...]}`.
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Each label, after the word `smoke` or `night`.
    Both,
    /// The tests to run for the change, for `bazel test --target_pattern_file`.
    Smoke,
    /// The tests to run at night.
    Night,
}

/// The local tests, divided.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Divided {
    smoke: Vec<String>,
    night: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    ensure!(
        arguments.local != STANDARD_INPUT || arguments.selected != STANDARD_INPUT,
        "cannot read both --local and --selected from standard input"
    );
    let local = read(&arguments.local, "--local")?;
    for label in &local {
        ensure!(
            label.sibling(LOCAL, FARM).is_some(),
            "{label} in --local is not a local test: their names end in {LOCAL}\n\
             hint: bazel query 'attr(tags, \"\\blocal_system_test\\b\", //...)' lists them"
        );
    }
    let divided = divide(&local, &read(&arguments.selected, "--selected")?, arguments.own);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&divided)?);
        return Ok(exit_code::PASSED);
    }
    let both = matches!(arguments.print, Part::Both);
    for (word, labels, is_wanted) in [
        ("smoke ", &divided.smoke, both || matches!(arguments.print, Part::Smoke)),
        ("night ", &divided.night, both || matches!(arguments.print, Part::Night)),
    ] {
        for label in labels.iter().filter(|_| is_wanted) {
            println!("{}{label}", if both { word } else { "" });
        }
    }
    Ok(exit_code::PASSED)
}

fn divide(local: &BTreeSet<Label>, selected: &BTreeSet<Label>, own: bool) -> Divided {
    let mut divided = Divided::default();
    for test in local {
        let siblings = [FARM, ""].into_iter().filter_map(|suffix| test.sibling(LOCAL, suffix));
        let is_selected =
            siblings.into_iter().any(|sibling| selected.contains(&sibling)) || own && selected.contains(test);
        if is_selected { &mut divided.smoke } else { &mut divided.night }.push(test.to_string());
    }
    divided
}

/// Reads a list of labels. Lines that are empty or begin with `#` are passed over, and so are labels of
/// other repositories, whose tests are not ours, and what stands behind a label, such as the
/// configuration that `bazel cquery` prints.
fn read(file: &Utf8Path, option: &str) -> anyhow::Result<BTreeSet<Label>> {
    let text = if file == STANDARD_INPUT {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text).context("cannot read standard input")
    } else {
        fs::read_to_string(file).map_err(anyhow::Error::from)
    };
    parse(&text.with_context(|| format!("cannot read labels for {option}"))?)
        .with_context(|| format!("cannot parse `{file}`, given by {option}"))
}

fn parse(text: &str) -> anyhow::Result<BTreeSet<Label>> {
    let lines = text.lines().enumerate();
    let labels = lines.filter_map(|(index, line)| {
        let word = line.split_whitespace().next().filter(|word| !word.starts_with('#'))?;
        if Label::is_foreign(word) {
            return None;
        }
        Some(Label::parse(word).with_context(|| format!("line {}", index + 1)))
    });
    labels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeSet<Label> {
        parse(text).unwrap()
    }

    const LOCAL_TESTS: &str =
        "//a:x_local\n//a:y_local (f00ba4)\n\n# comment\n@other//a:z_local\n//b:x_local\n";

    #[test]
    fn a_local_test_is_run_when_its_sibling_is_selected_and_at_night_else() {
        let divided = divide(&labels(LOCAL_TESTS), &labels("//a:x_farm //other:y_farm\n//b:x"), false);
        assert_eq!(divided.smoke, ["//a:x_local", "//b:x_local"]);
        assert_eq!(divided.night, ["//a:y_local"]);
    }

    #[test]
    fn its_own_label_counts_when_that_is_asked_for() {
        let selected = labels("//a:y_local");
        assert_eq!(divide(&labels(LOCAL_TESTS), &selected, false).smoke, [""; 0]);
        assert_eq!(divide(&labels(LOCAL_TESTS), &selected, true).smoke, ["//a:y_local"]);
    }

    #[test]
    fn every_local_test_is_on_one_side() {
        let local = labels(LOCAL_TESTS);
        let divided = divide(&local, &BTreeSet::new(), true);
        assert_eq!(divided.night.len() + divided.smoke.len(), local.len());
    }

    #[test]
    fn a_line_that_is_no_label_is_told_with_its_number() {
        let error = parse("//a:b\nsrc/main.rs\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: \"src/main.rs\" is not a label"), "{error:#}");
    }
}
