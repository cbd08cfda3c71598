//! The project's own commands: `cargo xtask setup`, `test`, `fuzz`, `demo`, `bench`, `docs` and `tidy`.
//!
//! What matters here runs as an ordinary user. Started as root, as continuous integration often
//! is, xtask builds as root and runs what it built as the account `steading`; see [`place`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command for people")]

mod bench;
mod cargo;
mod checkout;
mod command;
mod demo;
mod docs;
mod error;
mod fuzz;
mod guest;
mod place;
mod setup;
mod test;
mod tidy;
mod user;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set-up, demo, test, fuzz, bench, docs and tidy.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing on this machine; do nothing when all is there.
    Setup,
    /// Check everything: rules, format, lints, documentation, tests, and suites on real guests.
    Test(test::Options),
    /// Search long for inputs that break readers, guided by coverage; the tests do so shortly.
    Fuzz(fuzz::Options),
    /// Show a testnet of real machines at work: the etcd suite, explained.
    Demo,
    /// Measure, in a release build, and print the figures.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Make the pages of the book that are generated: the reference, and the code in the guide.
    Docs(docs::Options),
    /// Check the rules of the repository that no compiler knows.
    Tidy,
    /// Run a program as the ordinary user. Cargo is given this as the runner of doc tests.
    #[command(hide = true)]
    AsUser {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Test(options) => test::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Demo => demo::run(),
        Task::Bench { bench } => bench::run(&bench),
        Task::Docs(options) => docs::run(&options),
        Task::Tidy => tidy::run(),
        Task::AsUser { program } => user::become_and_exec(&program),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            error::print(&error);
            ExitCode::FAILURE
        }
    }
}
