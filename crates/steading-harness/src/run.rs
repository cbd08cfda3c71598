//! Runs a suite: brings its group up, runs each function in a process of its own, tears it down.
//!
//! Everything that comes from outside, be it a signal, a line of a function, its end, the end of
//! its time or of the group's owner, comes together in one `select`, in [`Runner::follow`].

use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use steading_api::{Client, ClientError, ProcessEvent, ProcessSpec};
use steading_group::{GroupError, Owner};
use steading_plan::PlanError;
use steading_report::{Event, Failure, Outcome, Report, Summary};
use steading_sys::signal::Signals;

use crate::cli::RunArgs;
use crate::exit_code;
use crate::prepare::{self, Planned, PrepareError};
use crate::suite::{Function, Role, Suite};

/// How many of a failed function's last lines are shown again at the end.
const LINES_KEPT: usize = 20;

/// How long an orderly teardown of the group may take.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long a function that was told to end may take for it.
const END_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tests,
    SetupOnly,
}

/// An error with all that caused it; advice stays at the end.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let (said, hint) = match cause.split_once("\nhint:") {
            Some((said, hint)) => (said.to_owned(), Some(hint.trim().to_owned())),
            None => (cause, None),
        };
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        hints.extend(hint);
    }
    for hint in hints {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

pub(crate) fn print_plan(suite: &Suite, group: Option<&str>, report: &Report) -> u8 {
    let planned = (suite.testnet)()
        .and_then(|testnet| Ok(prepare::plan(group.unwrap_or(&suite.name), &testnet)?))
        .and_then(|planned| Ok(serde_json::to_string_pretty(&planned.plan)?));
    match planned {
        Ok(json) => {
            report.print(&json);
            exit_code::PASSED
        }
        Err(error) => {
            report.tell(&Event::Error { message: chain(&error) });
            exit_code::USAGE
        }
    }
}

pub(crate) fn run(suite: &Suite, args: &RunArgs, mode: Mode, report: &Report) -> u8 {
    let is_any = suite.with_role(Role::Test).any(|test| is_selected(&test.name, &args.filter, args.exact));
    if !args.filter.is_empty() && !is_any {
        let error = anyhow::anyhow!(
            "no test is selected by {}\nhint: `list` shows what there is",
            args.filter.join(" ")
        );
        return fail(report, exit_code::USAGE, &error);
    }
    let log_dir = args.out.clone().unwrap_or_else(|| default_log_dir(&suite.name));
    let planned = (suite.testnet)()
        .and_then(|testnet| Ok(prepare::plan(args.group.as_deref().unwrap_or(&suite.name), &testnet)?));
    let Planned { plan, acceleration } = match planned {
        Ok(planned) => planned,
        Err(error) => return fail(report, blame(&error), &error),
    };
    report.tell(&Event::Planned {
        suite: suite.name.clone(),
        resources: plan.resources.to_string(),
        vms: plan.vms.iter().map(|vm| (vm.name.to_string(), vm.address)).collect(),
        acceleration: acceleration.acceleration.as_str().to_owned(),
        reason: acceleration.reason,
    });
    let owner = prepare::prepare(plan, &log_dir).map_err(anyhow::Error::from).and_then(|config| {
        let log_dir = config.log_dir.clone();
        let mut owner = steading_group::spawn(config)?;
        match owner.wait_until_ready() {
            Ok(()) => Ok((owner, log_dir)),
            Err(error) => {
                owner.kill();
                let _ = owner.wait();
                Err(anyhow::Error::from(error))
            }
        }
    });
    let (owner, log_dir) = match owner {
        Ok(owner) => owner,
        Err(error) => return fail(report, exit_code::HOST, &error),
    };
    // Threads and event loops exist from here on only.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let runner = Runner::new(suite, args, owner, report, &log_dir)?;
            Ok(runner.run(mode).await)
        })
    });
    ran.unwrap_or_else(|error: anyhow::Error| fail(report, exit_code::HOST, &error))
}

/// A testnet that is declared wrongly is the author's mistake; all else is the host's.
fn blame(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<PrepareError>() {
        Some(PrepareError::Plan(PlanError::Resources(_))) => exit_code::HOST,
        Some(PrepareError::Plan(_) | PrepareError::Name(_)) => exit_code::USAGE,
        _ => exit_code::HOST,
    }
}

fn fail(report: &Report, code: u8, error: &anyhow::Error) -> u8 {
    report.tell(&Event::Error { message: chain(error) });
    code
}

fn default_log_dir(suite: &str) -> Utf8PathBuf {
    if let Ok(dir) = std::env::var("TEST_UNDECLARED_OUTPUTS_DIR") {
        return Utf8PathBuf::from(dir);
    }
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    Utf8PathBuf::from(format!("out/{suite}/{now}-{}", std::process::id()))
}

struct Runner<'a> {
    suite: &'a Suite,
    args: &'a RunArgs,
    owner: Owner,
    client: Client,
    report: &'a Report,
    log_dir: &'a Utf8Path,
    signals: Signals,
    interrupts: u32,
    overall_end: Instant,
    summary: Summary,
}

impl<'a> Runner<'a> {
    fn new(
        suite: &'a Suite,
        args: &'a RunArgs,
        owner: Owner,
        report: &'a Report,
        log_dir: &'a Utf8Path,
    ) -> Result<Self, GroupError> {
        let signals = Signals::open(&[Signal::INT, Signal::TERM])
            .map_err(|source| GroupError::Io { action: "wait for signals", source })?;
        Ok(Self {
            client: Client::new(owner.socket_path()),
            signals,
            overall_end: Instant::now() + suite.overall_limit,
            interrupts: 0,
            summary: Summary::default(),
            suite,
            args,
            owner,
            report,
            log_dir,
        })
    }

    async fn run(mut self, mode: Mode) -> u8 {
        let suite = self.suite;
        let mut set_up = true;
        for function in suite.with_role(Role::Setup) {
            set_up &= self.function(function).await == Outcome::Passed;
        }
        if mode == Mode::Tests {
            for function in suite.with_role(Role::Test) {
                let reason = if !is_selected(&function.name, &self.args.filter, self.args.exact) {
                    Some("not selected by the filter")
                } else if !set_up {
                    Some("setup failed")
                } else if self.interrupts > 0 {
                    Some("interrupted")
                } else {
                    None
                };
                match reason {
                    Some(reason) => self.skip(function, reason),
                    None => {
                        self.function(function).await;
                    }
                }
            }
        }
        if self.interrupts == 0 && set_up && (mode == Mode::SetupOnly || self.args.keepalive) {
            self.stay().await;
        }
        // A first interrupt ended what ran; teardowns run all the same, unless there is a second.
        let mut torn_down = true;
        for function in suite.with_role(Role::Teardown) {
            if self.interrupts < 2 {
                torn_down &= self.function(function).await == Outcome::Passed;
            }
        }
        let interrupted = self.interrupts > 0 && mode == Mode::Tests;
        self.end(set_up, torn_down, interrupted).await
    }

    fn skip(&mut self, function: &Function, reason: &str) {
        let outcome = Outcome::Skipped { reason: reason.to_owned() };
        self.report.tell(&Event::Ended {
            name: function.name.clone(),
            outcome: outcome.clone(),
            seconds: 0.0,
        });
        self.summary.add(&function.name, outcome, 0.0, Vec::new());
    }

    /// Runs one function to its end, whichever comes first.
    async fn function(&mut self, function: &Function) -> Outcome {
        self.report.tell(&Event::Started { name: function.name.clone() });
        let began = Instant::now();
        let end = began + function.limit;
        let mut lines = Vec::new();
        let outcome = match self.follow(function, end, &mut lines).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(Failure::Group { reason: chain(&error.into()) }),
        };
        let seconds = began.elapsed().as_secs_f64();
        self.report.tell(&Event::Ended { name: function.name.clone(), outcome: outcome.clone(), seconds });
        self.summary.add(&function.name, outcome.clone(), seconds, lines);
        outcome
    }

    async fn follow(
        &mut self,
        function: &Function,
        end: Instant,
        lines: &mut Vec<String>,
    ) -> Result<Outcome, ClientError> {
        let me = std::env::current_exe()
            .map_or_else(|_| "/proc/self/exe".to_owned(), |path| path.to_string_lossy().into_owned());
        let spec = ProcessSpec {
            name: function.name.clone(),
            argv: vec![me, "__function".to_owned(), function.name.clone()],
            env: Vec::new(),
        };
        let mut events = self.client.start_process(&spec).await?;
        let mut pid = None;
        let mut cut_short = None;
        let overall = self.overall_end < end;
        let left = end.min(self.overall_end).saturating_duration_since(Instant::now());
        let deadline = tokio::time::timeout(left, std::future::pending::<()>());
        tokio::pin!(deadline);
        loop {
            let failure = tokio::select! {
                event = events.next() => match event? {
                    None => return Ok(Outcome::Failed(Failure::Group { reason: "the group has ended".to_owned() })),
                    Some(ProcessEvent::Started { pid: number }) => {
                        pid = Some(number);
                        continue;
                    }
                    Some(ProcessEvent::Line { text }) => {
                        self.report.tell(&Event::Line { name: function.name.clone(), text: text.clone() });
                        if lines.len() == LINES_KEPT {
                            lines.remove(0);
                        }
                        lines.push(text);
                        continue;
                    }
                    Some(ProcessEvent::Ended { status, signal, left }) => {
                        if !left.is_empty() {
                            self.report.tell(&Event::Left { name: function.name.clone(), processes: left });
                        }
                        return Ok(cut_short.map_or_else(|| outcome(status, signal), Outcome::Failed));
                    }
                },
                _ = &mut deadline => {
                    let limit = if overall { self.suite.overall_limit } else { function.limit };
                    Failure::TimedOut { seconds: limit.as_secs(), overall }
                }
                _ = self.signals.next() => self.interrupted(),
            };
            if cut_short.is_some() && self.interrupts == 0 {
                // It was told to end and has not: the group itself is stuck.
                return Ok(Outcome::Failed(failure));
            }
            cut_short.get_or_insert(failure);
            deadline.set(tokio::time::timeout(END_LIMIT, std::future::pending()));
            if let Some(pid) = pid {
                // It may have ended by itself meanwhile; its end comes in any case.
                let _ = self.client.end_process(pid).await;
            }
        }
    }

    fn interrupted(&mut self) -> Failure {
        self.interrupts += 1;
        self.report.tell(&Event::Interrupted { again: self.interrupts > 1 });
        if self.interrupts > 1 {
            self.owner.kill();
        }
        Failure::Interrupted
    }

    /// Keeps the group until somebody says that it is enough.
    async fn stay(&mut self) {
        self.report.tell(&Event::Staying { socket: self.client.path().to_owned(), owner: self.owner.pid() });
        // The stream of records ends with the owner.
        let owner_ends = async {
            if let Ok(mut records) = self.client.records().await {
                while let Ok(Some(_)) = records.next().await {}
            }
        };
        tokio::select! {
            _ = self.signals.next() => {}
            () = owner_ends => {}
        }
    }

    async fn end(self, set_up: bool, torn_down: bool, interrupted: bool) -> u8 {
        let asked = tokio::time::timeout(TEARDOWN_LIMIT, self.client.tear_down()).await;
        if !matches!(asked, Ok(Ok(()))) {
            self.owner.kill();
        }
        // The end of an owner that was asked to is awaited as long as it may take, then enforced.
        let pid = self.owner.process();
        let waited = tokio::task::spawn_blocking(move || self.owner.wait());
        if tokio::time::timeout(TEARDOWN_LIMIT, waited).await.is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let summary = self.summary;
        self.report.tell(&Event::Finished { summary: summary.clone(), log_dir: self.log_dir.to_string() });
        if let Err(error) = summary.write(self.log_dir) {
            self.report.tell(&Event::Error { message: chain(&error.into()) });
        }
        if interrupted {
            exit_code::INTERRUPTED
        } else if !set_up {
            exit_code::SETUP_FAILED
        } else if summary.failed() > 0 || !torn_down {
            exit_code::FAILED
        } else {
            exit_code::PASSED
        }
    }
}

/// What the end of a function's process says.
fn outcome(status: Option<i32>, signal: Option<i32>) -> Outcome {
    const PANICKED: i32 = 101;
    let ok = i32::from(exit_code::RETURNED_OK);
    let error = i32::from(exit_code::RETURNED_ERROR);
    Outcome::Failed(match status {
        Some(status) if status == ok => return Outcome::Passed,
        Some(status) if status == error => Failure::Returned,
        Some(PANICKED) => Failure::Panicked,
        Some(status) => Failure::Exited { status },
        None => Failure::Signal { signal: signal.unwrap_or(0) },
    })
}

/// Whether a test of this name is to be run.
fn is_selected(name: &str, filter: &[String], exact: bool) -> bool {
    filter.is_empty()
        || filter.iter().any(|wanted| if exact { name == wanted } else { name.contains(wanted.as_str()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_by_part_or_by_the_whole_name() {
        let filter = ["writes".to_owned()];
        assert!(is_selected("writes_are_read", &filter, false));
        assert!(!is_selected("writes_are_read", &filter, true));
        assert!(is_selected("writes", &filter, true));
        assert!(!is_selected("reboot", &filter, false));
        assert!(is_selected("anything", &[], true));
    }

    #[test]
    fn only_a_function_that_returned_ok_has_passed() {
        assert_eq!(outcome(Some(80), None), Outcome::Passed);
        assert_eq!(outcome(Some(0), None), Outcome::Failed(Failure::Exited { status: 0 }));
        assert_eq!(outcome(Some(81), None), Outcome::Failed(Failure::Returned));
        assert_eq!(outcome(Some(101), None), Outcome::Failed(Failure::Panicked));
        assert_eq!(outcome(None, Some(6)), Outcome::Failed(Failure::Signal { signal: 6 }));
    }

    #[test]
    fn advice_stays_at_the_end_of_an_error_and_nothing_is_said_twice() {
        let error = anyhow::anyhow!("no such file")
            .context("cannot read x: no such file\nhint: make it")
            .context("VM a");
        assert_eq!(chain(&error), "VM a: cannot read x: no such file\nhint: make it");
    }
}
