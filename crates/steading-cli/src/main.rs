//! The command line of Steading, for everything that a test program does not do itself.

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
    /// Group name or owner PID [default: the only running group]. For `up`, `run` and `plan`: the name
    /// of the new group [default: the name of the file].
    #[arg(long, short, value_name = "GROUP", global = true)]
    group: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check what this host supports, and show how to fix what is missing.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Kernel to boot as a test of KVM [default: the kernel of the reference guest].
        #[arg(long, value_name = "FILE")]
        kernel: Option<Utf8PathBuf>,
    },
    /// Bring up a testnet, and keep it until Ctrl-C or `down`.
    Up {
        /// Testnet file (TOML).
        topology: Utf8PathBuf,
        #[command(flatten)]
        up: UpArgs,
    },
    /// Bring up a testnet, run a program in its network, and tear it down.
    ///
    /// Environment variables describe the testnet to the program: `STEADING_GROUP`, `STEADING_DOMAIN`,
    /// `STEADING_LOG_DIR`, the address of each VM (`STEADING_VM_N1` for n1), the path of a JSON file with
    /// the whole plan (`STEADING_FACTS`), and the path of the private key for root in the guests
    /// (`STEADING_SSH_KEY`). The program starts at the same time as the VMs: use `steading wait VM` to wait
    /// for a guest.
    ///
    /// The program runs as it would from a shell. It has the standard input, output and error of this
    /// command, unchanged, and a terminal if both input and output are terminals. Its output is also in the
    /// log. A signal that asks this command to end goes to the program first. This command exits with the
    /// program's status, or with 125, 126 or 127 for its own errors, as env(1) does.
    Run {
        /// Testnet file (TOML).
        topology: Utf8PathBuf,
        #[command(flatten)]
        grace: GraceArgs,
        #[command(flatten)]
        up: UpArgs,
        /// Program and arguments.
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show reservations and the queue for this machine's CPUs and memory, and the measured use of testnets.
    Broker {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        options: BrokerOptions,
    },
    /// Print a nextest configuration that fits this machine and times out hung tests.
    Nextest(nextest::NextestOptions),
    /// Remove what killed drivers left behind on a host without namespaces.
    ///
    /// These are processes, directories and interfaces of your own groups. On hosts with namespaces the
    /// kernel removes them, and there is nothing to do.
    Gc,
    /// List your running groups.
    Ps {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Live(live::LiveCommand),
    /// Print everything derived from a testnet: addresses, names, command lines.
    ///
    /// Nothing is started, except for a test of KVM if there was none since this machine booted.
    Plan {
        /// Testnet file (TOML).
        topology: Utf8PathBuf,
        /// Print the whole plan as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        engine: EngineArgs,
    },
    /// Print the JSON schema of testnet files, for completion and checks in editors.
    Schema,
    /// Regenerate a run's report from its log and results.
    Report {
        /// Log directory of the run.
        dir: Utf8PathBuf,
    },
    /// Choose which local system tests of a Bazel workspace to run for a change, and which to run at night.
    Select(select::Arguments),
    /// Print shell completions.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command.
    Man {
        /// Existing directory to write to.
        dir: Utf8PathBuf,
    },
    /// Manage the cache of booted testnets.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Manage the image cache.
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
