//! `cargo xtask bench`: runs `steading-bench`, in a release build and as the ordinary user.
//!
//! What is measured, and against what, is that program's matter; its options pass through.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::{cargo, command, guest, place::Place, setup};

const PACKAGE: &str = "steading-bench";

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// An empty group: how fast its network comes up and goes.
    Group {
        /// Options of `steading-bench group`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Journals: how fast they are read, beside journalctl.
    Logs {
        /// Options of `steading-bench logs`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// The reference guest: how long until it answers, beside a shell script.
    Boot {
        /// Options of `steading-bench boot`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// The file server: one large file and many small ones, beside nginx.
    Files {
        /// Options of `steading-bench files`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Idle guests: what each takes, and how many fit.
    Density {
        /// Options of `steading-bench density`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Faults of the network: what rules and relays cost two guests that speak.
    Faults {
        /// Options of `steading-bench faults`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// QEMU and libvirt: the same testnet by each.
    Engines {
        /// Options of `steading-bench engines`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Groups of 1 to 500 simulated machines: how long the driver takes, and how much memory.
    Scale {
        /// Options of `steading-bench scale`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Freezing, forks and warm starts, beside booting the same anew.
    Fork {
        /// Options of `steading-bench fork`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

impl Bench {
    fn words(&self) -> (&'static str, &[String]) {
        match self {
            Bench::Group { options } => ("group", options),
            Bench::Logs { options } => ("logs", options),
            Bench::Boot { options } => ("boot", options),
            Bench::Files { options } => ("files", options),
            Bench::Density { options } => ("density", options),
            Bench::Faults { options } => ("faults", options),
            Bench::Engines { options } => ("engines", options),
            Bench::Scale { options } => ("scale", options),
            Bench::Fork { options } => ("fork", options),
        }
    }
}

/// The command `bench`.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    setup::ensure()?;
    let place = Place::take()?;
    let program = cargo::build_program(&place, PACKAGE, &["--release"])?;
    let image = guest::REFERENCE.image(&place)?;
    let (name, options) = bench.words();
    let mut command = place.user.command(&program.path);
    command.arg(name).args(options).current_dir(&place.run).env(guest::REFERENCE.variable, image);
    let status = command.status().with_context(|| format!("cannot start `{}`", command::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        bench: Bench,
    }

    #[test]
    fn options_pass_through() {
        let line = Line::parse_from(["bench", "group", "--runs", "5"]);
        assert_eq!(line.bench.words(), ("group", &["--runs".to_owned(), "5".to_owned()][..]));
    }
}
