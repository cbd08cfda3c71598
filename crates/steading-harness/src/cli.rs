//! The test program as a command line, and as a libtest executable for `cargo test` and nextest.

use std::ffi::OsString;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use steading_report::{Event, Report};

use crate::exit_code;
use crate::function;
use crate::run::{self, Mode};
use crate::suite::Declared;

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
    #[command(flatten)]
    libtest: LibtestArgs,
}

/// As a libtest executable: no subcommands, since a test may be named like one.
#[derive(Parser)]
#[command(no_binary_name = false)]
struct Libtest {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    libtest: LibtestArgs,
}

#[derive(Args, Clone, Default)]
pub(crate) struct RunArgs {
    /// Run only tests whose name contains one of these.
    pub(crate) filter: Vec<String>,
    /// Names must be equal to a filter, not contain it.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Leave out tests whose name contains this; may be given more than once.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// Run only tests that are declared as ignored.
    #[arg(long)]
    pub(crate) ignored: bool,
    /// Run tests that are declared as ignored, too.
    #[arg(long, conflicts_with = "ignored")]
    pub(crate) include_ignored: bool,
    /// How many functions may run at once in parallel sections [default: as many as there are].
    #[arg(long, short, alias = "test-threads", value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// How often each test that fails is tried again, at least.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,
    /// After the first test that fails, begin no other.
    #[arg(long)]
    pub(crate) fail_fast: bool,
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

/// What libtest has beside, as far as `cargo test` and nextest use it (`rustc` book, "Tests").
#[derive(Args, Default)]
struct LibtestArgs {
    /// List the tests, as libtest does.
    #[arg(long)]
    list: bool,
    /// How to list them.
    #[arg(long, value_enum, value_name = "FORMAT", hide = true, default_value_t = Format::Pretty)]
    format: Format,
    /// Accepted and without effect: output is always shown as it comes.
    #[arg(long, alias = "no-capture", hide = true)]
    nocapture: bool,
    /// Accepted and without effect.
    #[arg(long, hide = true)]
    show_output: bool,
    /// Accepted and without effect.
    #[arg(long, short, hide = true)]
    quiet: bool,
    /// Accepted and without effect: colour is used where there is a terminal.
    #[arg(long, hide = true, value_name = "WHEN")]
    color: Option<String>,
    /// Accepted and without effect: there are no benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
    /// Accepted and without effect: tests are what is run.
    #[arg(long, hide = true)]
    test: bool,
    /// Accepted and without effect.
    #[arg(short = 'Z', hide = true, value_name = "OPTION")]
    unstable: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Pretty,
    Terse,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests; what is done when no command is given.
    Run(RunArgs),
    /// List the tests.
    List,
    /// Print all that is derived from the testnet, as JSON. Nothing is started, except that KVM is
    /// tried if this machine has not done so since it was booted.
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
pub(crate) fn main(suite: &Declared) -> ExitCode {
    let (command, run, libtest) = parse(std::env::args_os().collect());
    let report = Report::new();
    if let Some(name) = suite.tree.duplicate() {
        let message = format!(
            "two functions of the suite are named {name:?}\nhint: give each its own; a filter could not tell them apart"
        );
        report.tell(&Event::Error { message });
        return ExitCode::from(exit_code::USAGE);
    }
    let code = match command {
        None if libtest.list => list_as_libtest(suite, &run, libtest.format, &report),
        None => run::run(suite, &run, Mode::Tests, &report),
        Some(Command::Run(args)) => run::run(suite, &args, Mode::Tests, &report),
        Some(Command::Up(args)) => run::run(suite, &args, Mode::SetupOnly, &report),
        Some(Command::List) => {
            for test in suite.tree.tests() {
                report.print(&suite.tree[test].name);
            }
            exit_code::PASSED
        }
        Some(Command::Plan { group }) => run::print_plan(suite, group.as_deref(), &report),
        Some(Command::Function { name }) => function::run(suite, &name, &report),
    };
    ExitCode::from(code)
}

fn parse(args: Vec<OsString>) -> (Option<Command>, RunArgs, LibtestArgs) {
    // Words that libtest's callers say and people hardly do.
    let is_libtest = args
        .iter()
        .any(|arg| arg == "--exact" || arg == "--list" || arg == "--nocapture" || arg == "--no-capture");
    let is_command =
        args.get(1).is_some_and(|arg| arg == "run" || arg == "up") && !args.contains(&"--nocapture".into());
    if is_libtest && !is_command {
        let Libtest { run, libtest } = Libtest::parse_from(args);
        return (None, run, libtest);
    }
    let Cli { command, run, libtest } = Cli::parse_from(args);
    (command, run, libtest)
}

/// `name: test`, one a line, and in the pretty format a line with their number.
fn list_as_libtest(suite: &Declared, args: &RunArgs, format: Format, report: &Report) -> u8 {
    let mut count = 0;
    for id in suite.tree.tests() {
        let test = &suite.tree[id];
        // Without --ignored, nextest wants all, and asks for the ignored ones a second time.
        let ignored = test.options.ignored.as_deref().filter(|_| args.ignored);
        if run::is_selected(args, &test.name, ignored) {
            report.print(&format!("{}: test", test.name));
            count += 1;
        }
    }
    if matches!(format, Format::Pretty) {
        let plural = if count == 1 { "" } else { "s" };
        report.print(&format!("\n{count} test{plural}, 0 benchmarks"));
    }
    exit_code::PASSED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> (Option<Command>, RunArgs, LibtestArgs) {
        parse(std::iter::once("suite").chain(line.split_whitespace()).map(OsString::from).collect())
    }

    #[test]
    fn command_lines_of_cargo_and_nextest_are_understood() {
        let (command, run, libtest) = parsed("--list --format terse --ignored");
        assert!(command.is_none() && libtest.list && run.ignored);
        assert!(matches!(libtest.format, Format::Terse));
        let (command, run, _) = parsed("list --nocapture --exact");
        assert!(command.is_none() && run.exact);
        assert_eq!(run.filter, ["list"]);
        let (command, run, _) = parsed("writes --test-threads 1 --skip slow --color always");
        assert!(command.is_none());
        assert_eq!(
            (run.jobs, run.filter, run.skip),
            (Some(1), vec!["writes".to_owned()], vec!["slow".to_owned()])
        );
        assert!(parsed("").0.is_none());
    }

    #[test]
    fn command_lines_of_people_are_understood() {
        assert!(matches!(parsed("list").0, Some(Command::List)));
        let Some(Command::Run(args)) = parsed("run writes --exact").0 else { panic!("not `run`") };
        assert!(args.exact && args.filter == ["writes"]);
        assert!(matches!(parsed("up --group x").0, Some(Command::Up(_))));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        Libtest::command().debug_assert();
    }
}
