//! `cargo xtask test`: everything there is to check, by one command and without a question.
//!
//! Checks come first and tests last, but none stops the others: one run tells all that is wrong.
//! Only what cannot be built cannot be tested. Test executables are run directly rather than by
//! `cargo test`, since as root they run as an account that may be unable to read the toolchain.

mod libtest;
mod summary;

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use camino::Utf8PathBuf;
use clap::Args;

use self::{
    libtest::{Counts, Reader},
    summary::{Outcome, Summary},
};
use crate::{
    cargo::{self, Executable, Kind},
    command::{self, End},
    docs, error, guest,
    place::Place,
    setup, tidy,
};

/// A system test of real software on real guests: a package in `suites/`, or the test of the guide, each a
/// program; and how it is run.
#[derive(Clone, Copy)]
struct Suite {
    package: &'static str,
    arguments: &'static [&'static str],
}

impl Suite {
    const fn plain(package: &'static str) -> Self {
        Self { package, arguments: &[] }
    }

    const fn by(package: &'static str, arguments: &'static [&'static str]) -> Self {
        Self { package, arguments }
    }

    fn title(&self) -> String {
        [self.package].iter().chain(self.arguments).copied().collect::<Vec<_>>().join(" ")
    }
}

/// Run so, a suite is on a host that gives users no namespaces (`steading_testing::arena`).
const WITHOUT_NAMESPACES: &[&str] = &["--isolation", "launcher"];

/// Of the suite of VMs inside VMs, which boot slowly, the test that has most of it.
const HOST_UPGRADED: &str = "it_goes_on_while_its_host_is_upgraded_and_comes_back_with_it";

/// Of the suite of guests that boot on a busy host, the test that takes a minute.
const FEW_GUESTS: &str = "four_guests_boot_beside_busy_loops";

const SUITES: &[Suite] = &[
    Suite::plain("suite-guests"),
    Suite::by("suite-guests", &["--engine", "libvirt"]),
    Suite::plain("suite-health"),
    Suite::by("suite-health", WITHOUT_NAMESPACES),
    Suite::plain("suite-etcd"),
    Suite::plain("suite-forks"),
    Suite::plain("suite-faults"),
    Suite::plain("suite-files"),
    Suite::plain("suite-firewall"),
    Suite::plain("suite-universal"),
    Suite::plain("suite-outcalls"),
    Suite::plain("suite-addresses"),
    Suite::plain("suite-names"),
    Suite::by("suite-nested", &[HOST_UPGRADED]),
    Suite::by("suite-stress", &[FEW_GUESTS]),
    Suite::plain("first-test"),
];

/// Those that take many minutes, and are run when they are asked for (`--all`).
const LONG_SUITES: &[Suite] = &[
    Suite::plain("suite-upgrade"),
    Suite::plain("suite-nested"),
    Suite::plain("suite-stress"),
    Suite::by("suite-health", &["--engine", "libvirt"]),
    Suite::by("suite-etcd", &["--engine", "libvirt", "--forks", "1"]),
    Suite::by("suite-etcd", WITHOUT_NAMESPACES),
];

/// What a test target is called that is a suite itself, and ends as suites do.
const SUITE: &str = "suite";

/// Far more than any executable or suite takes under emulation: something hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the suites on real guests.
    #[arg(long)]
    no_suites: bool,
    /// Run the suites that take many minutes, too.
    #[arg(long, conflicts_with = "no_suites")]
    all: bool,
    /// Run only tests whose name holds this.
    filter: Option<String>,
}

impl Options {
    /// The suites that are run.
    fn suites(&self) -> Vec<Suite> {
        let (some, long): (&[Suite], &[Suite]) = match self {
            Self { no_suites: true, .. } => (&[], &[]),
            Self { all: true, .. } => (SUITES, LONG_SUITES),
            _ => (SUITES, &[]),
        };
        [some, long].concat()
    }
}

/// The command `test`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    setup::ensure()?;
    let mut summary = Summary::default();
    summary.check("tidy", tidy::check());
    let place = Place::take()?;
    for (name, words, variables) in CHECKS {
        title(name);
        let mut command = cargo::command(&place, words);
        summary.check(name, command::run(command.envs(variables.iter().copied())));
    }

    let mut images = Vec::new();
    let suites = options.suites();
    for guest in guest::wanted(&suites.iter().map(|suite| suite.package).collect::<Vec<_>>()) {
        title(guest.name);
        let image = summary.check(guest.name, guest.image(&place));
        images.extend(image.map(|image| (guest.variable, image)));
    }

    title("building tests");
    let tests = cargo::build(&place, &["test", "--locked", "--workspace", "--no-run"]);
    let programs = cargo::build(&place, &["build", "--locked", "--workspace", "--bins"]);
    let tests = summary.check("building tests", tests).unwrap_or_default();
    let programs = summary.check("building programs", programs).unwrap_or_default();

    title("book");
    summary.check("book", docs::check(&place.sources, &programs));

    let run = Run { place: &place, images: &images, filter: options.filter.as_deref() };
    for test in tests.iter().filter(|test| test.is_test) {
        summary.add(run.executable(test, &programs));
    }
    summary.add(run.doc_tests());
    for suite in suites {
        match programs.iter().find(|made| made.package == suite.package && made.kind == Kind::Binary) {
            Some(program) => summary.add(run.suite(suite, program, &programs)),
            None => summary.add(Outcome::broken(suite.package, "it was not built")),
        }
    }
    print!("{}", summary.render(started.elapsed()));
    Ok(if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Check = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const CHECKS: &[Check] = &[
    ("format", &["fmt", "--all", "--check"], &[]),
    ("lints", &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny=warnings"], &[]),
    (
        "documentation",
        &["doc", "--locked", "--workspace", "--no-deps", "--lib"],
        &[("RUSTDOCFLAGS", "--deny=warnings")],
    ),
];

fn title(what: &str) {
    println!("\n=== {what}");
}

/// What all tests of one run have in common.
struct Run<'a> {
    place: &'a Place,
    /// The guests' variables, and where their images are.
    images: &'a [(&'static str, Utf8PathBuf)],
    filter: Option<&'a str>,
}

impl Run<'_> {
    fn executable(&self, test: &Executable, programs: &[Executable]) -> Outcome {
        let title = test.title();
        let mut command = self.place.user.command(&test.path);
        command.args(self.filter);
        // As cargo does, so that a test finds its files in the same way: in its package's directory,
        // which as root the account can read but not write.
        command
            .current_dir(&test.directory)
            .env("CARGO_MANIFEST_DIR", &test.directory)
            .env("CARGO_MANIFEST_PATH", test.directory.join("Cargo.toml"))
            .env("CARGO_PKG_NAME", &test.package);
        for program in
            programs.iter().filter(|made| made.package == test.package && made.kind == Kind::Binary)
        {
            command.env(format!("CARGO_BIN_EXE_{}", program.name), &program.path);
        }
        self.environment(&mut command);
        if test.name == SUITE {
            // It writes logs, to where the account may write.
            command.current_dir(&self.place.run);
            return watch(&title, &mut command, Reader::of_suite());
        }
        watch(&title, &mut command, Reader::of_libtest())
    }

    fn doc_tests(&self) -> Outcome {
        match cargo::doc_tests(self.place, self.filter) {
            Ok(mut command) => {
                self.environment(&mut command);
                // Each library without any doc tests says so too.
                watch("doc tests", &mut command, Reader::of_libtest())
            }
            Err(error) => Outcome::broken("doc tests", format!("{error:#}")),
        }
    }

    fn suite(&self, suite: Suite, program: &Executable, programs: &[Executable]) -> Outcome {
        let mut command = if suite.arguments == WITHOUT_NAMESPACES {
            let named =
                |name: &str| programs.iter().find(|made| made.name == name && made.kind == Kind::Binary);
            let (Some(arena), Some(launcher)) = (named("arena"), named("steading-launcher")) else {
                return Outcome::broken(&suite.title(), "the launcher was not built");
            };
            let mut command = self.place.user.command(&arena.path);
            command.arg(&launcher.path).arg(&program.path);
            command
        } else {
            self.place.user.command(&program.path)
        };
        command.arg("run").args(suite.arguments).args(self.filter).current_dir(&self.place.run);
        self.environment(&mut command);
        watch(&suite.title(), &mut command, Reader::of_suite())
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("RUST_BACKTRACE", "1")
            // A snapshot that differs is a failure, and nothing is written beside the sources.
            .env("INSTA_UPDATE", "no")
            .env("INSTA_WORKSPACE_ROOT", &self.place.sources);
        command.envs(self.images.iter().map(|(variable, image)| (variable, image)));
    }
}

/// Runs tests, showing what they say as it comes.
fn watch(name: &str, command: &mut Command, mut reader: Reader) -> Outcome {
    title(name);
    let started = Instant::now();
    let end = command::watch(command, TIME_LIMIT, |line| {
        println!("{line}");
        reader.read(line);
    });
    let took = started.elapsed();
    let (counts, mut failures) = reader.end();
    let trouble = match end {
        Err(error) => {
            error::print(&error);
            Some(format!("{error:#}"))
        }
        Ok(End::TimeLimit(limit)) => Some(format!("it was ended after {} minutes", limit.as_secs() / 60)),
        Ok(End::Exited(status)) => match counts {
            None if status.success() => Some("it ended without telling its result".to_owned()),
            Some(Counts { failed: 1.., .. }) if !status.success() => None,
            _ if !status.success() => Some(format!("it ended with {status}")),
            _ => None,
        },
    };
    let mut counts = counts.unwrap_or_default();
    if let Some(trouble) = trouble {
        counts.failed += 1;
        failures.push(trouble);
    }
    Outcome { name: name.to_owned(), counts, failures, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch_shell(script: &str, reader: Reader) -> Outcome {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        watch("x", &mut command, reader)
    }

    const PASSED: &str = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'";

    #[test]
    fn an_executable_that_passes_is_counted() {
        let outcome = watch_shell(PASSED, Reader::of_libtest());
        assert_eq!(outcome.counts, Counts { passed: 3, failed: 0, skipped: 1 });
        assert!(outcome.failures.is_empty());
    }

    #[test]
    fn an_executable_that_is_killed_midway_has_failed() {
        let outcome = watch_shell("echo 'test a ... ok'; kill -9 $$", Reader::of_libtest());
        assert_eq!(outcome.counts.failed, 1);
        assert!(outcome.failures[0].contains("signal: 9"), "{:?}", outcome.failures);
    }

    #[test]
    fn an_executable_that_passes_and_then_fails_has_failed() {
        let outcome = watch_shell(&format!("{PASSED}; exit 7"), Reader::of_libtest());
        assert_eq!(outcome.counts.failed, 1);
    }

    #[test]
    fn an_executable_that_says_nothing_has_failed() {
        assert_eq!(watch_shell("true", Reader::of_suite()).counts.failed, 1);
    }

    #[test]
    fn what_cannot_be_started_has_failed() {
        let outcome = watch("x", &mut Command::new("no-such-program"), Reader::of_libtest());
        assert_eq!(outcome.counts.failed, 1);
    }
}
