//! The command line of Steading, for everything that is not a test program of its own.

mod broker;
mod cache;
mod doctor;
#[cfg(test)]
mod flags_tests;
mod gc;
mod image;
mod nextest;
mod plan;
mod ps;
mod select;
mod topology;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::{CommandFactory as _, Parser, Subcommand};
use steading_harness::broker::BrokerOptions;
use steading_harness::{EngineArgs, GraceArgs, Purpose, UpArgs, command_line, exit_code, live};
use steading_report::output::{self, eprintln, println};
use steading_sys::inherited;
use steading_vm::image::ImageError;

#[derive(Parser)]
#[command(
    name = "steading",
    about = "System tests on clusters of real virtual machines, as an ordinary user.",
    version
)]
struct Cli {
    /// The group, by its name or by its owner's process number [default: the only one that runs]. Of
    /// a testnet that is planned or brought up, the name to be [default: the file's].
    #[arg(long, short, value_name = "GROUP", global = true)]
    group: Option<String>,
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
    /// Bring a testnet up, and stay until Ctrl-C or `down`.
    Up {
        /// The testnet, in TOML.
        topology: Utf8PathBuf,
        #[command(flatten)]
        up: UpArgs,
    },
    /// Bring a testnet up, run a program inside its network, and tear it down.
    ///
    /// The program finds the testnet's facts in its environment: `STEADING_GROUP`,
    /// `STEADING_DOMAIN`, `STEADING_LOG_DIR`, an address for each VM (`STEADING_VM_N1` for n1),
    /// and the paths of a JSON file with all of the plan (`STEADING_FACTS`) and of the private key
    /// for root in guests (`STEADING_SSH_KEY`). It starts when the VMs do: `steading wait VM` waits
    /// for one.
    ///
    /// It is run as a shell would: its input, output and errors are those of this command, byte by byte, and
    /// it has a terminal if input and output are one. Its output is in the log, too. A signal that asks this
    /// command to end reaches the program first. Its exit status becomes that of this command, which has
    /// 125, 126 and 127 for its own errors, as env(1) does.
    Run {
        /// The testnet, in TOML.
        topology: Utf8PathBuf,
        #[command(flatten)]
        grace: GraceArgs,
        #[command(flatten)]
        up: UpArgs,
        /// The program and its arguments.
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Say who holds and who waits for this machine's CPUs and memory, and what testnets were measured
    /// to take beside what they declare.
    Broker {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        options: BrokerOptions,
    },
    /// Print a configuration for cargo-nextest, by which it runs so many tests at once as this machine has
    /// CPUs and memory for, and ends those that hang.
    Nextest(nextest::NextestOptions),
    /// Remove what is left of your groups whose drivers were killed where there are no namespaces: processes,
    /// directories, interfaces. Elsewhere the kernel does so, and there is nothing.
    Gc,
    /// List your groups that run.
    Ps {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Live(live::LiveCommand),
    /// Print all that is derived from a testnet: addresses, names, command lines. Nothing is
    /// started, except that KVM is tried if this machine has not done so since it was booted.
    Plan {
        /// The testnet, in TOML.
        topology: Utf8PathBuf,
        /// Print all of it, as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        engine: EngineArgs,
    },
    /// Print the JSON schema of testnets in TOML, for editors that complete and check.
    Schema,
    /// Make the report of a run anew, from its log and results.
    Report {
        /// The directory with the run's logs.
        dir: Utf8PathBuf,
    },
    /// Say which local system tests of a Bazel workspace to run for a change, and which to leave for the
    /// night.
    Select(select::Arguments),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    Man {
        /// Where to; an existing directory.
        dir: Utf8PathBuf,
    },
    /// Look after the cache of booted testnets.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Look after the image cache.
    #[command(subcommand)]
    Image(image::ImageCommand),
}

fn main() -> ExitCode {
    inherited::normalize();
    let words: Vec<OsString> = std::env::args_os().collect();
    let purpose = Purpose::of(words.get(1..).unwrap_or_default(), true);
    let Cli { group, command } = match command_line::parse(purpose, &words) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let done = match command {
        Command::Up { topology, up } => topology::up(&topology, group.as_deref(), up),
        Command::Run { topology, grace, up, command } => {
            topology::run(&topology, group.as_deref(), &up, grace, &command)
        }
        Command::Broker { json, options } => broker::print(&options, json),
        Command::Nextest(options) => nextest::print(&options),
        Command::Gc => gc::collect(),
        Command::Ps { json } => ps::print(json),
        Command::Live(command) => live::run(&command, group.as_deref()),
        Command::Doctor { json, kernel } => doctor::examine(json, kernel.as_deref()),
        Command::Plan { topology, json, engine } => {
            plan::print(&topology, group.as_deref(), engine.engine, json)
        }
        Command::Schema => topology::schema().map(|schema| {
            println!("{schema}");
            exit_code::PASSED
        }),
        Command::Report { dir } => steading_report::write(&dir).map_err(anyhow::Error::from).map(|page| {
            println!("{page}");
            exit_code::PASSED
        }),
        Command::Select(arguments) => select::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "steading", &mut script);
            // Its failure decides the status below.
            let _ = output::Stdout.write_all(&script);
            Ok(exit_code::PASSED)
        }
        Command::Man { dir } => {
            clap_mangen::generate_to(Cli::command(), &dir).map(|()| exit_code::PASSED).with_context(|| {
                format!("cannot write manual pages to {dir}\nhint: it is to be a directory that exists")
            })
        }
        Command::Cache(command) => cache::run(&command),
        Command::Image(command) => image::run(&command),
    };
    let code = match done {
        Ok(code) => purpose.done(code),
        Err(error) => {
            let code = purpose
                .failed(&error, |error| eprintln!("error: {}", steading_harness::chain(error.as_ref())));
            let is_host = error.downcast_ref::<topology::GuestNotFound>().is_some()
                || error.downcast_ref::<ImageError>().is_some();
            if is_host { purpose.own(exit_code::HOST) } else { code }
        }
    };
    ExitCode::from(code)
}
