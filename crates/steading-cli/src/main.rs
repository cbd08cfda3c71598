//! The command line of Steading, for everything that is not a test program of its own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks")]

mod doctor;
mod image;
mod plan;

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "steading",
    about = "System tests on clusters of real virtual machines, as an ordinary user.",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what this host can do, item by item, and how to mend what it cannot.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The kernel that is booted to see whether KVM works [default: the reference guest's].
        #[arg(long, value_name = "FILE")]
        kernel: Option<Utf8PathBuf>,
    },
    /// Print all that is derived from a testnet: addresses, names, command lines. Nothing is touched.
    Plan {
        /// The testnet, in TOML.
        topology: Utf8PathBuf,
        /// The group's name [default: the file's name without its ending].
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Print all of it, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look after the image cache.
    #[command(subcommand)]
    Image(image::Command),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Doctor { json, kernel } => doctor::examine(json, kernel.as_deref()),
        Command::Plan { topology, group, json } => plan::print(&topology, group.as_deref(), json),
        Command::Image(command) => image::run(&command),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", steading_harness::chain(error.as_ref()));
            ExitCode::from(steading_harness::exit_code::USAGE)
        }
    }
}
