//! Runs one program, in any language, inside a testnet: `steading run TOPOLOGY -- COMMAND`.
//!
//! It is run as a shell would: its streams are this program's own, byte by byte; a signal that asks this
//! program to end reaches it first; its exit status becomes this program's.

mod facts;
mod streams;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use steading_api::{Client, ClientError, Ending, FailureKind, ProcessEvent, ProcessSpec};
use steading_plan::Testnet;
use steading_report::output::Output;
use steading_report::{Event, Report};
use steading_sys::signal::{ENDING, Received, Signals, not_ignored};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bring_up::{BringUpOptions, RunningGroup, bring_up};
use crate::broker::Copies;
use crate::ending::fail;
use crate::event_loop::wait_for;
use crate::exit_code;
use crate::interrupts::Interrupts;
use crate::up_args::UpArgs;
use crate::watch::{News, ReportedProblems, Watch, redrawing};
use facts::facts;
use streams::{Connection, pass_on_keys, pass_on_output, size};

/// What the log calls the program.
const NAME: &str = "command";

/// What a shell says of a program that a signal has ended, less the signal's number.
const SIGNALLED: i32 = 128;

/// How many events of the program may wait. Its output does not: it is written before the next event is
/// read.
const EVENTS_WAITING: usize = 16;

/// Brings the testnet up, runs the program, tears it down. The exit status is the program's, once
/// it was started; else one of those that env(1) has for itself.
pub fn run_command(
    group: &str,
    testnet: &Testnet,
    up: &UpArgs,
    grace: Duration,
    argv: &[String],
    report: &Report,
) -> u8 {
    match bring_up(group, &|| Ok(testnet.clone()), &BringUpOptions::of(up, Copies::One), report) {
        Ok(up) => command_in(up, grace, argv, report),
        Err((_, error)) => fail(report, exit_code::RUN_FAILED, &error),
    }
}

/// Runs the program in a group that is up, and tears that down.
pub(crate) fn command_in(up: RunningGroup, grace: Duration, argv: &[String], report: &Report) -> u8 {
    let RunningGroup { handle, log_dir, .. } = up;
    let client = handle.client();
    let mut reported = ReportedProblems::default();
    let ran = wait_for(async {
        let status = follow(handle.owner(), &client, argv, grace, report, &mut reported).await;
        report.take_back();
        // When it cannot be asked it has ended.
        let _ = client.tear_down().await;
        status
    });
    if ran.is_err() {
        handle.kill();
    }
    let problems = handle.farewell().unwrap_or_default();
    for problem in problems.lines().filter(|problem| reported.add(problem)) {
        report.tell(&Event::Warning { message: problem.to_owned() });
    }
    match ran {
        Ok(status) => {
            let status = with_output_lost(status, report);
            report.tell(&Event::CommandEnded { status, log_dir: log_dir.into_string() });
            status
        }
        Err(error) => fail(report, status_of(&error), &error),
    }
}

/// The program's status, but for a success whose output is lost. A reader that has gone wanted no more, and
/// an error of standard error cannot be reported.
fn with_output_lost(status: u8, report: &Report) -> u8 {
    let Some(lost) = Output::Stdout.failure().filter(|lost| !lost.is_reader_gone()) else { return status };
    report.tell(&Event::Error { message: format!("the output of the program is incomplete: {lost}") });
    if status == exit_code::PASSED { exit_code::RUN_FAILED } else { status }
}

/// The status of a program that was not run, or whose end is not known.
fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ClientError>().and_then(ClientError::kind) {
        Some(FailureKind::NoProgram) => exit_code::RUN_NOT_FOUND,
        Some(FailureKind::CannotStart) => exit_code::RUN_CANNOT_START,
        _ => exit_code::RUN_FAILED,
    }
}

/// The program that runs, as far as signals of this program concern it.
struct RunningProgram<'a> {
    client: &'a Client,
    report: &'a Report,
    grace: Duration,
    /// Its number inside the group, once it has one.
    pid: Option<i32>,
    interrupts: Interrupts,
    /// A request to end that came before the number was known.
    owed: Option<(u32, Signal)>,
}

impl RunningProgram<'_> {
    async fn started(&mut self, pid: i32) {
        self.pid = Some(pid);
        if let Some((count, signal)) = self.owed.take() {
            self.ask_to_end(pid, count, signal).await;
        }
    }

    async fn take(&mut self, received: Received) -> anyhow::Result<()> {
        if received.signal == Signal::WINCH {
            if let Some(pid) = self.pid {
                // It may have ended by itself meanwhile; its end comes in any case.
                let _ = self.client.resize(pid, size()).await;
            }
            return Ok(());
        }
        let Some(count) = self.interrupts.take(received, Instant::now()) else { return Ok(()) };
        self.report.tell(&Event::Interrupted { again: count > 1, grace: self.grace });
        anyhow::ensure!(count <= 2, "interrupted three times");
        match self.pid {
            Some(pid) => self.ask_to_end(pid, count, received.signal).await,
            None => self.owed = Some((count, received.signal)),
        }
        Ok(())
    }

    /// Passes the first request to end on to the program, and kills it by the second. It may have ended by itself
    /// meanwhile; its end comes in any case.
    async fn ask_to_end(&self, pid: i32, count: u32, signal: Signal) {
        let _ = match count {
            1 => self.client.ask_process_to_end(pid, Ending::new(signal.as_raw(), self.grace)).await,
            _ => self.client.end_process(pid).await,
        };
    }
}

/// What may come while the program runs.
enum CommandEvent {
    Event(Option<Result<ProcessEvent, ClientError>>),
    News(Option<News>),
    Signal(std::io::Result<Received>),
}

async fn follow(
    owner: Option<i32>,
    client: &Client,
    argv: &[String],
    grace: Duration,
    report: &Report,
    reported: &mut ReportedProblems,
) -> anyhow::Result<u8> {
    let mut watch = Watch::begin(client).await?;
    let connection = Connection::of_this_program();
    let mut signals = not_ignored(&ENDING);
    signals.extend(connection.is_terminal().then_some(Signal::WINCH));
    let signals = Signals::open(&signals)?;
    let status = client.status().await?;
    let env = facts(owner, &status);
    let streams = connection.streams;
    let spec = ProcessSpec { name: NAME.to_owned(), argv: argv.to_vec(), env, streams };
    let events = client.start_process(&spec).await?;
    report.give_way(connection.is_terminal());
    let raw = connection.enter()?;
    let (sender, mut received) = mpsc::channel(EVENTS_WAITING);
    let mut tasks = JoinSet::new();
    tasks.spawn(pass_on_output(client.clone(), events, sender));
    let mut running =
        RunningProgram { client, report, grace, pid: None, interrupts: Interrupts::default(), owed: None };
    let mut is_watching = true;
    loop {
        let come = redrawing(report, async {
            tokio::select! {
                event = received.recv() => CommandEvent::Event(event),
                news = watch.next(), if is_watching => CommandEvent::News(news),
                signal = signals.next_received() => CommandEvent::Signal(signal),
            }
        });
        match come.await {
            CommandEvent::Event(None) => anyhow::bail!("the group has ended"),
            CommandEvent::Event(Some(event)) => match event? {
                ProcessEvent::Started { pid } => {
                    running.started(pid).await;
                    if raw.is_some() {
                        tasks.spawn(pass_on_keys(client.clone(), pid));
                    }
                }
                ProcessEvent::Ended { status, signal, left } => {
                    drop(raw);
                    if !left.is_empty() {
                        report.tell(&Event::Left { name: NAME.to_owned(), processes: left });
                    }
                    let status = status.unwrap_or_else(|| SIGNALLED + signal.unwrap_or(0));
                    return Ok(u8::try_from(status).unwrap_or(exit_code::RUN_FAILED));
                }
                ProcessEvent::Line { .. } | ProcessEvent::Output { .. } | ProcessEvent::Note { .. } => {}
            },
            CommandEvent::News(Some(News::Vm(vm, sign))) => report.tell(&Event::Vm { vm, sign }),
            CommandEvent::News(Some(News::Problem(message))) => {
                reported.add(&message);
                report.tell(&Event::Warning { message });
            }
            CommandEvent::News(None) => is_watching = false,
            CommandEvent::Signal(signal) => running.take(signal?).await?,
        }
    }
}
