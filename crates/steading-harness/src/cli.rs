//! The test program as a command line, and as a libtest executable for `cargo test` and nextest.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use steading_api::chain;
use steading_report::{Event, Report};
use steading_sys::inherited;

use crate::bazel;
use crate::command_line;
use crate::describe;
use crate::ending::Purpose;
use crate::environment::variable;
use crate::exit_code;
use crate::function;
use crate::hold::{self, BootArgs, HoldArgs};
use crate::live;
use crate::run::{self, Mode, RunArgs};
use crate::suite::{Declared, Suite};
use crate::up_args::{EngineArgs, UpArgs};

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
    options: Options,
}

#[derive(Args, Clone, Default)]
struct GroupArg {
    /// Group name, from which all addresses are derived [default: the suite's name]. For a running group,
    /// also the PID of its owner.
    #[arg(long, value_name = "NAME", global = true)]
    group: Option<String>,
}

/// As a libtest executable: no subcommands, since a test may be named like one.
#[derive(Parser)]
struct AsLibtest {
    #[command(flatten)]
    options: Options,
}

/// What may be said without a subcommand.
#[derive(Args)]
struct Options {
    #[command(flatten)]
    group: GroupArg,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    libtest: LibtestArgs,
}

/// The other options of libtest, as far as `cargo test` and nextest use it (`rustc` book, "Tests").
#[derive(Args, Default)]
struct LibtestArgs {
    /// List the tests, as libtest does.
    #[arg(long)]
    list: bool,
    /// Format of the list.
    #[arg(long, value_enum, value_name = "FORMAT", hide = true, default_value_t = ListFormat::Pretty)]
    format: ListFormat,
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
enum ListFormat {
    #[default]
    Pretty,
    Terse,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests (default).
    Run(RunArgs),
    /// List the tests.
    List,
    /// Print everything derived from the testnet, as JSON.
    ///
    /// Nothing is started, except for a test of KVM if there was none since this machine booted.
    Plan(EngineArgs),
    /// Bring up the testnet, run setup, and keep it until Ctrl-C.
    Up(RunArgs),
    #[command(flatten)]
    Live(live::LiveCommand),
    /// Print the description for schedulers of several test programs.
    #[command(name = describe::COMMAND, hide = true)]
    Describe,
    /// Make a fork of a group, and hold it.
    #[command(name = "__fork", hide = true)]
    Fork(HoldArgs),
    /// Boot another testnet, and hold it.
    #[command(name = "__boot", hide = true)]
    Boot(BootArgs),
    /// Run one function inside a group.
    #[command(name = "__function", hide = true)]
    Function {
        /// Its name.
        name: String,
    },
}

impl Suite {
    /// Runs the command on the command line, and returns the exit status.
    pub fn main(self) -> ExitCode {
        main(self.declared())
    }

    /// Brings the testnet up with setup, and stays until it is interrupted or torn down. It is for the command
    /// `steading`; a test program has the command `up`.
    #[doc(hidden)]
    pub fn up(self, args: UpArgs, report: &Report) -> u8 {
        let args = RunArgs { up: args, ..RunArgs::default() };
        run::run(&self.declared(), &args, Mode::SetupOnly, report)
    }
}

fn main(mut suite: Declared) -> ExitCode {
    inherited::normalize();
    let words: Vec<OsString> = std::env::args_os().collect();
    let purpose = Purpose::of(words.get(1..).unwrap_or_default(), false);
    let Parsed { command, mut run, libtest } = match parse(purpose, &words) {
        Ok(parsed) => parsed,
        Err(code) => return ExitCode::from(code),
    };
    let purpose = match &command {
        // The list of tests is data; of a run, the tests are what counts.
        None if libtest.list => Purpose::Print,
        None | Some(Command::Run(_) | Command::Up(_)) => Purpose::Hold,
        Some(_) => purpose,
    };
    let report = Report::new();
    if !libtest.list && matches!(command, None | Some(Command::Run(_))) {
        if let Err(error) = bazel::obey(&mut suite, &mut run, &variable) {
            report.tell(&Event::Error { message: chain(error.as_ref()) });
            return ExitCode::from(exit_code::USAGE);
        }
        suite.rules.add(&run.log_require, &run.log_forbid);
    }
    let suite = &suite;
    let duplicate = || {
        let name = suite.tree.duplicate()?;
        Some(format!(
            "two functions of the suite are named {name:?}\nhint: give each function its own name, so that filters can select it"
        ))
    };
    if let Some(message) = suite.tree.bad_name().or_else(duplicate) {
        report.tell(&Event::Error { message });
        return ExitCode::from(exit_code::USAGE);
    }
    let code = match command {
        None if libtest.list => list_as_libtest(suite, &run, libtest.format, &report),
        None | Some(Command::Run(_)) => run_tests(suite, &run, &report),
        Some(Command::Up(_)) => run::run(suite, &run, Mode::SetupOnly, &report),
        Some(Command::List) => {
            for test in suite.tree.tests() {
                report.print(&suite.tree[test].name);
            }
            exit_code::PASSED
        }
        Some(Command::Plan(args)) => run::print_plan(suite, run.group.as_deref(), args.engine, &report),
        Some(Command::Live(command)) => {
            // Groups of this suite may have been given another name.
            let wanted = run.group.as_deref().unwrap_or(&suite.name);
            let done = live::run(&command, Some(wanted));
            let code = done.unwrap_or_else(|error| {
                purpose.failed(&error, |error| report.tell(&Event::Error { message: chain(error.as_ref()) }))
            });
            return ExitCode::from(purpose.done(code));
        }
        Some(Command::Describe) => describe::print(suite, &report),
        Some(Command::Fork(args)) => hold::hold(&args, &report),
        Some(Command::Boot(args)) => hold::hold_booted(suite, &args, &report),
        Some(Command::Function { name }) => function::run(suite, &name, &report),
    };
    ExitCode::from(purpose.done(code))
}

/// Runs the tests, and reports their end to Bazel, whatever their result.
fn run_tests(suite: &Declared, args: &RunArgs, report: &Report) -> u8 {
    let ran = bazel::Unended::begin(&variable).and_then(|unended| {
        let code = run::run(suite, args, Mode::Tests, report);
        unended.end()?;
        Ok(code)
    });
    ran.unwrap_or_else(|error| {
        report.tell(&Event::Error { message: chain(error.as_ref()) });
        exit_code::HOST
    })
}

struct Parsed {
    command: Option<Command>,
    /// Those of the command, if it has some.
    run: RunArgs,
    libtest: LibtestArgs,
}

fn parse(purpose: Purpose, args: &[OsString]) -> Result<Parsed, u8> {
    // Words that libtest's callers say and people hardly do.
    let says = |word: &str| args.iter().any(|arg| arg == word);
    let is_libtest = says("--list") || says("--nocapture") || says("--no-capture") || says("--exact");
    let is_command = args.get(1).is_some_and(|arg| arg == "run" || arg == "up") && !says("--nocapture");
    let (command, options) = if is_libtest && !is_command {
        (None, command_line::parse::<AsLibtest>(purpose, args)?.options)
    } else {
        let Cli { command, options } = command_line::parse(purpose, args)?;
        (command, options)
    };
    let Options { group, run, libtest } = options;
    let run = match &command {
        Some(Command::Run(args) | Command::Up(args)) => args.clone(),
        _ => run,
    };
    Ok(Parsed { command, run: RunArgs { group: group.group, ..run }, libtest })
}

/// `name: test`, one a line, and in the pretty format a line with their number.
fn list_as_libtest(suite: &Declared, args: &RunArgs, format: ListFormat, report: &Report) -> u8 {
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
    if matches!(format, ListFormat::Pretty) {
        let plural = if count == 1 { "" } else { "s" };
        report.print(&format!("\n{count} test{plural}, 0 benchmarks"));
    }
    exit_code::PASSED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        let words = std::iter::once("suite").chain(line.split_whitespace());
        let words: Vec<OsString> = words.map(OsString::from).collect();
        parse(Purpose::Hold, &words).unwrap_or_else(|code| panic!("status {code}"))
    }

    #[test]
    fn command_lines_of_cargo_and_nextest_are_understood() {
        let listing = parsed("--list --format terse --ignored");
        assert!(listing.command.is_none() && listing.libtest.list && listing.run.ignored);
        assert!(matches!(listing.libtest.format, ListFormat::Terse));
        let named_like_a_command = parsed("list --nocapture --exact");
        assert!(named_like_a_command.command.is_none() && named_like_a_command.run.exact);
        assert_eq!(named_like_a_command.run.filter, ["list"]);
        let Parsed { command, run, .. } = parsed("writes --test-threads 1 --skip slow --color always");
        assert!(command.is_none());
        let (filter, skip) = (vec!["writes".to_owned()], vec!["slow".to_owned()]);
        assert_eq!((run.jobs, run.filter, run.skip), (Some(1), filter, skip));
        assert!(parsed("").command.is_none());
    }

    #[test]
    fn command_lines_of_people_are_understood() {
        assert!(matches!(parsed("list").command, Some(Command::List)));
        let run = parsed("run writes --exact").run;
        assert!(run.exact && run.filter == ["writes"]);
        let up = parsed("up --group x");
        assert!(matches!(up.command, Some(Command::Up(_))));
        assert_eq!(up.run.group.as_deref(), Some("x"));
        assert_eq!(parsed("plan --group x").run.group.as_deref(), Some("x"));
        let Some(Command::Live(live::LiveCommand::Exec { vm, command, .. })) =
            parsed("exec n1 ls -l").command
        else {
            panic!("not `exec`");
        };
        assert_eq!((vm.as_str(), command), ("n1", vec!["ls".to_owned(), "-l".to_owned()]));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        AsLibtest::command().debug_assert();
    }
}
