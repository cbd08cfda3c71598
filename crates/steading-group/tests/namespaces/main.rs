//! Groups in real namespaces, from their coming up to what is left of them.
//!
//! Namespaces are entered by a process with one thread, so this is no libtest program: each case
//! runs in a process of its own, started from this executable, one after another. It answers
//! as libtest does, so that `cargo test` and nextest can use it.

#![expect(clippy::print_stdout, reason = "it is its own test harness")]

mod bring_up;
mod faults;
mod files;
mod machines;
mod names;
mod network;
mod programs;
mod remote;
mod support;
mod teardown;
mod traces;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::{Outcome, Seed};
use traces::{pidfd, wait_for_end};

/// How long one case may take.
const CASE_LIMIT: Duration = Duration::from_secs(90);

/// The exit status of a case that the host cannot run.
const IGNORED: u8 = 77;

/// As libtest's, when a case has failed.
const FAILED: u8 = 101;

/// Before the name of a case: run it in this process.
const CASE: &str = "__case";

type Case = (&'static str, fn() -> Outcome);

/// Every case, in order.
fn cases() -> Vec<Case> {
    [
        bring_up::CASES,
        network::CASES,
        faults::CASES,
        files::CASES,
        names::CASES,
        programs::CASES,
        remote::CASES,
        teardown::CASES,
        machines::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [CASE, name] => run_here(name),
        [support::RUNNER, group, dir, kind, span] => {
            support::run_group(group, dir.as_ref(), kind, span);
            ExitCode::SUCCESS
        }
        args => run_selected(&Selection::new(args)),
    }
}

fn run_here(name: &str) -> ExitCode {
    // Owners whose runner was killed become children of this process, which waits for them: in a
    // container there may be nobody else who does.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("take in orphans");
    let (_, case) = cases().into_iter().find(|(known, _)| *known == name).expect("a known case");
    match case() {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Ignored(reason) => {
            println!("{reason}");
            ExitCode::from(IGNORED)
        }
    }
}

/// What the command line asks for, in libtest's terms.
struct Selection<'a> {
    filters: Vec<&'a str>,
    skipped: Vec<&'a str>,
    exact: bool,
    list: bool,
    only_ignored: bool,
    show_output: bool,
}

impl<'a> Selection<'a> {
    fn new(args: &[&'a str]) -> Self {
        let has = |name: &str| args.contains(&name);
        let mut selection = Self {
            filters: Vec::new(),
            skipped: Vec::new(),
            exact: has("--exact"),
            list: has("--list"),
            only_ignored: has("--ignored"),
            show_output: has("--nocapture") || has("--no-capture"),
        };
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            match arg {
                "--skip" => selection.skipped.extend(args.next()),
                // Their values are of no use here.
                "--format" | "--color" | "--test-threads" | "-Z" | "--logfile" => {
                    args.next();
                }
                option if option.starts_with('-') => {}
                filter => selection.filters.push(filter),
            }
        }
        selection
    }

    fn takes(&self, name: &str) -> bool {
        let is = |wanted: &&str| if self.exact { name == *wanted } else { name.contains(*wanted) };
        (self.filters.is_empty() || self.filters.iter().any(is)) && !self.skipped.iter().any(is)
    }
}

fn run_selected(selection: &Selection<'_>) -> ExitCode {
    let all = cases();
    let total = all.len();
    // Whether a case is ignored is known when it runs only.
    let chosen: Vec<&str> = all
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| selection.takes(name) && !selection.only_ignored)
        .collect();
    if selection.list {
        for name in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let seed = Seed::from_environment();
    println!("\nrunning {} tests (STEADING_SEED={seed} repeats the random delays)", chosen.len());
    let (mut passed, mut ignored, mut failures) = (0, 0, Vec::new());
    for name in &chosen {
        match run_apart(name, seed, selection.show_output) {
            Ended::Passed => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ended::Ignored(reason) => {
                ignored += 1;
                println!("test {name} ... ignored, {reason}");
            }
            Ended::Failed(said) => {
                println!("test {name} ... FAILED");
                failures.push((name, said));
            }
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:");
    }
    for (name, said) in &failures {
        println!("\n---- {name} ----\n{}", said.trim_end());
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        failures.len(),
        total - chosen.len(),
        began.elapsed().as_secs_f32()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

enum Ended {
    Passed,
    Ignored(String),
    Failed(String),
}

/// Runs a case in a process of its own, whose output is kept for when it fails.
fn run_apart(name: &str, seed: Seed, show_output: bool) -> Ended {
    let output = tempfile::NamedTempFile::new().expect("a file for the output");
    // Its own, so that what is left in it was left by this case.
    let temporary = tempfile::tempdir().expect("a directory for temporary files");
    let stream = || output.reopen().map(Stdio::from).expect("the same file again");
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args([CASE, name]).env(support::SEED_VARIABLE, seed.to_string()).stdin(Stdio::null());
    command.env("TMPDIR", temporary.path());
    // Both streams share a file, so each must write at its end.
    let append =
        || fs_err::OpenOptions::new().append(true).open(output.path()).expect("the file, to append to");
    if show_output {
        command.stdout(stream());
    } else {
        command.stdout(append().into_parts().0).stderr(append().into_parts().0);
    }
    let mut child = command.spawn().expect("start a case");
    let pidfd = pidfd(child.id().cast_signed()).expect("the case has not been waited for");
    let in_time = wait_for_end(&pidfd, CASE_LIMIT);
    if !in_time {
        child.kill().expect("end a case");
    }
    let status = child.wait().expect("wait for a case");
    let said = fs_err::read(output.path()).expect("read the output");
    let said = String::from_utf8_lossy(&said).into_owned();
    if let Err(error) = temporary.close() {
        return Ended::Failed(format!(
            "{said}\nits directory for temporary files cannot be removed: {error}"
        ));
    }
    match status.code() {
        Some(0) => Ended::Passed,
        Some(code) if code == i32::from(IGNORED) => {
            Ended::Ignored(said.lines().next_back().unwrap_or_default().to_owned())
        }
        _ if !in_time => Ended::Failed(format!("{said}\nit took longer than {} s", CASE_LIMIT.as_secs())),
        _ => Ended::Failed(format!("{said}\nit ended with {status}")),
    }
}
