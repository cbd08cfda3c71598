//! `cargo xtask docs`: the pages of the book that are made from the programs and their sources.
//!
//! A reference that is written by hand is wrong soon. So flags are read from what the programs say
//! to `--help`; variables, statuses, events and the fields of files from the one place in the
//! sources that documents them; and the code in the guide is that of `examples/`, which is tested.

mod difference;
mod example;
mod help;
mod item;
mod page;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use fs_err as fs;

use crate::{
    cargo::{self, Executable, Kind},
    place::Place,
};

/// The command line of Steading.
const STEADING: &str = "steading-cli";
/// A test program, of which there are as many as there are tests.
const TEST_PROGRAM: &str = "first-test";
/// Pages with code of `examples/`.
const GUIDE: &str = "docs/guide";

#[derive(Args)]
pub(crate) struct Options {
    /// Write nothing; fail, with what differs, when a page is not as it should be.
    #[arg(long)]
    check: bool,
}

/// The command `docs`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // No program is asked for more than its help, so there is no need of the user, nor of a copy of
    // the sources that the user can read.
    let place = Place::clone_itself()?;
    let mut programs = Vec::new();
    for package in [STEADING, TEST_PROGRAM] {
        programs.push(cargo::build_program(&place, package, &[])?);
    }
    if options.check {
        check(&place.sources, &programs)?;
    } else {
        write(&place.sources, &programs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An error if a page is not as it should be; what differs is printed.
pub(crate) fn check(root: &Utf8Path, programs: &[Executable]) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for Page { path, text } in pages(root, programs)? {
        let present = fs::read_to_string(root.join(&path)).unwrap_or_default();
        if present != text {
            print!("{}", difference::show(path.as_str(), &present, &text));
            stale.push(path.into_string());
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}; run `cargo xtask docs`", stale.join(", "));
    }
    Ok(())
}

fn write(root: &Utf8Path, programs: &[Executable]) -> anyhow::Result<()> {
    for Page { path, text } in pages(root, programs)? {
        let path = root.join(path);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, text)?;
        println!("{path}");
    }
    Ok(())
}

/// A page as it should be.
struct Page {
    /// Relative to the root.
    path: Utf8PathBuf,
    text: String,
}

fn pages(root: &Utf8Path, programs: &[Executable]) -> anyhow::Result<Vec<Page>> {
    let steading = help::of(program(programs, STEADING)?)?;
    let test_program = help::of(program(programs, TEST_PROGRAM)?)?;
    let source = |path: &str| -> anyhow::Result<String> { Ok(fs::read_to_string(root.join(path))?) };
    let sources = |paths: &[&str]| paths.iter().map(|path| source(path)).collect::<anyhow::Result<String>>();
    let reference =
        |name: &str, text: String| Page { path: format!("docs/reference/{name}.md").into(), text };
    let mut pages = vec![
        reference("command-line", page::command_line(&steading, &test_program)),
        reference("exit-status", page::exit_status(&source("crates/steading-harness/src/exit_code.rs")?)),
        reference("environment", page::environment(&source("crates/steading-plan/src/env_vars.rs")?)),
        reference(
            "testnet",
            page::testnet(&page::TestnetSources {
                file: source("crates/steading-plan/src/testnet_file.rs")?,
                declared: sources(&[
                    "crates/steading-plan/src/testnet.rs",
                    "crates/steading-plan/src/image_source.rs",
                ])?,
                served: source("crates/steading-plan/src/file.rs")?,
                record: source("crates/steading-plan/src/names/record.rs")?,
                addressing: source("crates/steading-plan/src/addressing.rs")?,
            })?,
        ),
        reference(
            "events",
            page::events(
                &source("crates/steading-logs/src/record.rs")?,
                &sources(&["crates/steading-report/src/summary.rs", "crates/steading-report/src/row.rs"])?,
                &source("crates/steading-report/src/outcome.rs")?,
            )?,
        ),
    ];
    for entry in root.join(GUIDE).read_dir_utf8().with_context(|| format!("cannot list {GUIDE}"))? {
        let path = Utf8Path::new(GUIDE).join(entry?.file_name());
        let text = example::insert(&source(path.as_str())?, &source).with_context(|| path.to_string())?;
        pages.push(Page { path, text });
    }
    Ok(pages)
}

fn program<'a>(programs: &'a [Executable], package: &str) -> anyhow::Result<&'a Utf8Path> {
    let made = programs.iter().find(|made| made.package == package && made.kind == Kind::Binary);
    Ok(&made.with_context(|| format!("the program of {package} was not built"))?.path)
}
