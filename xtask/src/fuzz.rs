//! `cargo xtask fuzz`: the long search for inputs that break readers, guided by coverage.
//!
//! The short one is a part of `cargo xtask test`. This one needs cargo-fuzz, which it installs beside
//! its results, and a C++ compiler for libFuzzer, but no nightly toolchain: only sanitizers do, and
//! no reader has unsafe code. It runs in the clone, as whoever calls: readers have no privileges to lose.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use fs_err as fs;

use crate::{cargo, command, error::Advise as _, place::Place};

const PACKAGE: &str = "steading-fuzz";

/// The version that the targets were tried with.
const CARGO_FUZZ: &str = "0.13.2";

/// The longest input, in bytes. All formats show what they have in less.
const LONGEST: u32 = 16 * 1024;

/// How long one input may take, in seconds, before it counts as a hang; and how much memory, in MiB.
const HANGS_AFTER: u32 = 20;
const MEMORY_MIB: u32 = 1024;

#[derive(Args)]
pub(crate) struct Options {
    /// The target; all of them, one after the other, when left out.
    target: Option<String>,
    /// How long to search, for each target.
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "input")]
    seconds: u32,
    /// Search no further: give this input to the target.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<Utf8PathBuf>,
}

/// The command `fuzz`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let place = Place::clone_itself()?;
    let program = cargo::build_program(&place, PACKAGE, &["--bin", PACKAGE])?;
    let targets = command::output(Command::new(&program.path).arg("list"))?;
    let targets: Vec<&str> = match &options.target {
        Some(wanted) => {
            check_known(wanted, &targets)?;
            vec![wanted]
        }
        None => targets.lines().collect(),
    };
    if let (Some(input), [target]) = (&options.input, targets.as_slice()) {
        // What it does with it, a panic or nothing, is all there is to see.
        let status = Command::new(&program.path).args(["run", target, input.as_str()]).status()?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let search = Search { out: place.run.join("fuzz"), place, seconds: options.seconds };
    search.prepare()?;
    let mut broken = Vec::new();
    for target in targets {
        println!("\n=== {target}");
        for input in search.target(&program.path, target)? {
            broken.push(format!("cargo xtask fuzz {target} --input {}", command::quote(input.as_str())));
        }
    }
    if broken.is_empty() {
        println!("\nnothing was found");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nfound, each to be repeated by:\n  {}", broken.join("\n  "));
    Ok(ExitCode::FAILURE)
}

fn check_known(wanted: &str, targets: &str) -> anyhow::Result<()> {
    let names: Vec<&str> = targets.lines().collect();
    let position = names.iter().position(|name| *name == wanted);
    position
        .with_context(|| format!("there is no target {wanted:?}"))
        .hint(format!("there are: {}", names.join(", ")))?;
    Ok(())
}

struct Search {
    place: Place,
    /// Where tools, builds, corpora and what was found are.
    out: Utf8PathBuf,
    seconds: u32,
}

impl Search {
    /// Looks for what is needed, and installs what cargo can install.
    fn prepare(&self) -> anyhow::Result<()> {
        command::output(Command::new("c++").arg("--version"))
            .context("libFuzzer is written in C++, and there is no compiler for it")
            .hint("apt-get install g++")?;
        let tools = self.out.join("tools");
        if command::output(&mut self.cargo_fuzz(&["--version"])).is_ok() {
            return Ok(());
        }
        println!("installing cargo-fuzz {CARGO_FUZZ} into {tools}, once");
        let mut install =
            cargo::command(&self.place, &["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]);
        command::run(install.arg("--root").arg(&tools)).hint("it comes from crates.io; is there a network?")
    }

    fn cargo_fuzz(&self, words: &[&str]) -> Command {
        let mut command = cargo::command(&self.place, &["fuzz"]);
        let mut path = OsString::from(self.out.join("tools/bin"));
        if let Some(usual) = std::env::var_os("PATH") {
            path.push(":");
            path.push(usual);
        }
        command.args(words).env("PATH", path);
        command
    }

    /// Searches on one target. Gives the inputs that broke it.
    fn target(&self, program: &Utf8Path, target: &str) -> anyhow::Result<Vec<Utf8PathBuf>> {
        let dir = self.out.join(target);
        let [corpus, seeds, found] = ["corpus", "seeds", "found"].map(|name| dir.join(name));
        let words = dir.join("words");
        for made in [&corpus, &found] {
            fs::create_dir_all(made)?;
        }
        let mut write = Command::new(program);
        command::output(write.args(["seeds", target, seeds.as_str(), words.as_str()]))?;
        let before = files(&found)?;
        let mut run =
            self.cargo_fuzz(&["run", "--fuzz-dir=fuzz", "--sanitizer=none", "--features=libfuzzer"]);
        run.arg("--target-dir").arg(self.out.join("build"));
        run.args([target, corpus.as_str(), seeds.as_str(), "--"]);
        run.args([
            format!("-max_total_time={}", self.seconds),
            format!("-max_len={LONGEST}"),
            format!("-timeout={HANGS_AFTER}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-dict={words}"),
            format!("-artifact_prefix={found}/"),
            "-print_final_stats=1".to_owned(),
        ]);
        let status = run.status().with_context(|| format!("cannot start `{}`", command::show(&run)))?;
        let inputs: Vec<_> = files(&found)?.difference(&before).cloned().collect();
        if inputs.is_empty() && !status.success() {
            bail!("`{}` failed: {status}", command::show(&run));
        }
        Ok(inputs)
    }
}

fn files(dir: &Utf8Path) -> anyhow::Result<BTreeSet<Utf8PathBuf>> {
    let entries = dir.read_dir_utf8().with_context(|| format!("cannot list {dir}"))?;
    Ok(entries.flatten().map(|entry| entry.path().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn a_target_that_does_not_exist_is_refused_with_those_that_do() {
        assert!(check_known("qmp", "log\nqmp\n").is_ok());
        let error = error::render(&check_known("qm", "log\nqmp\n").expect_err("there is none"));
        assert_eq!(error, "error: there is no target \"qm\"\nhint: there are: log, qmp");
    }
}
