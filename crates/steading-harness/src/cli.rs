//! The test program as a command line.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};
use steading_report::{Event, Report};

use crate::exit_code;
use crate::function;
use crate::run;
use crate::suite::{Role, Suite};

#[derive(Parser)]
#[command(
    about = "A system test: sets up its testnet, runs its tests, tears it down.",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args, Clone, Default)]
pub(crate) struct RunArgs {
    /// Run only tests whose name contains one of these.
    pub(crate) filter: Vec<String>,
    /// Names must be equal to a filter, not contain it.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Where logs go [default: $TEST_UNDECLARED_OUTPUTS_DIR, else out/SUITE/TIME].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<Utf8PathBuf>,
    /// The group's name, from which all addresses are derived [default: the suite's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Keep the testnet up after the tests, until Ctrl-C.
    #[arg(long)]
    pub(crate) keepalive: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests; what is done when no command is given.
    Run(RunArgs),
    /// List the tests.
    List,
    /// Print all that is derived from the testnet, as JSON. Nothing is touched.
    Plan {
        /// The group's name.
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
    /// Bring the testnet up, run setup, and stay until Ctrl-C.
    Up(RunArgs),
    /// Run one function inside a group.
    #[command(name = "__function", hide = true)]
    Function {
        /// Its name.
        name: String,
    },
}

/// Does what the command line says.
pub(crate) fn main(suite: &Suite) -> ExitCode {
    let cli = Cli::parse();
    let report = Report::new();
    if let Some(name) = suite.duplicate() {
        let message = format!(
            "two functions of the suite are named {name:?}\nhint: give each its own; a filter could not tell them apart"
        );
        report.tell(&Event::Error { message });
        return ExitCode::from(exit_code::USAGE);
    }
    let code = match cli.command {
        None => run::run(suite, &cli.run, run::Mode::Tests, &report),
        Some(Command::Run(args)) => run::run(suite, &args, run::Mode::Tests, &report),
        Some(Command::Up(args)) => run::run(suite, &args, run::Mode::SetupOnly, &report),
        Some(Command::List) => {
            for test in suite.with_role(Role::Test) {
                report.print(&test.name);
            }
            exit_code::PASSED
        }
        Some(Command::Plan { group }) => run::print_plan(suite, group.as_deref(), &report),
        Some(Command::Function { name }) => function::run(suite, &name, &report),
    };
    ExitCode::from(code)
}
