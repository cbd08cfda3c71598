//! Programs that run inside the group, test functions above all: started, listened to, and ended
//! together with whatever they leave behind.

mod input;
mod left;
mod output;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use steading_api::{
    Ending, Failure, FailureKind, Input, Note, OutputStream, ProcessEvent, ProcessSpec, Streams,
    TerminalSize, chain,
};
use steading_plan::env_vars;
use steading_sys::process::{self, Connected, Exit, Program, RunError};
use steading_sys::pty::{self, Pty};
use steading_sys::ready::watch;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::faults::Faults;
use crate::files::Files;
use crate::log::Log;
use input::Sink;
use left::{end_what_is_left, wait_for_what_is_left};
use output::{Listener, OutputSource, Until};
use steading_sys::processes::{ExitWatch, Processes};

/// Marks every process that a program starts, however deep, unless it clears its environment.
const MARK: &str = env_vars::STEADING_JOB;

/// How many lines or pieces may wait for a listener; a program that floods is held up by its pipe.
const EVENTS_WAITING: usize = 256;

/// How many requests to end may wait. More than two are never needed: one to ask, one to kill.
const ENDINGS_WAITING: usize = 4;

/// Longer than any program runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The programs that run.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    processes: Processes,
    log: Log,
    faults: Faults,
    files: Files,
    running: Arc<Mutex<HashMap<i32, Job>>>,
}

/// The ways to a program that runs.
#[derive(Debug)]
struct Job {
    name: String,
    /// None is to kill it.
    end: mpsc::Sender<Option<Ending>>,
    events: mpsc::Sender<ProcessEvent>,
    input: Option<Sink>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    outputs: HashMap<OutputStream, Until>,
}

/// A program that was started, with our ends of its streams.
struct Streaming {
    pid: Pid,
    input: Option<Sink>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    outputs: Vec<(OutputStream, OutputSource)>,
}

impl Jobs {
    pub(crate) fn new(processes: Processes, log: Log, faults: Faults, files: Files) -> Self {
        Self { processes, log, faults, files, running: Arc::default() }
    }

    /// Starts a program. The returned future drives it to its end; the events are its life. When
    /// nobody receives them any more it is killed.
    pub(crate) fn start(
        &self,
        spec: ProcessSpec,
    ) -> Result<(impl Future<Output = ()> + Send + use<>, mpsc::Receiver<ProcessEvent>), Failure> {
        let ProcessSpec { name, argv, mut env, streams } = spec;
        let mark = format!("{MARK}={name}-{}", jiff::Timestamp::now().as_nanosecond());
        env.extend(mark.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.push((env_vars::STEADING_SOCKET.to_owned(), crate::paths::socket_path()));
        let program =
            Program { argv, package: None, env, cwd: None, fds: Vec::new(), network_capabilities: true };
        let (started, mut exit) = self.processes.start(|| start(program, streams), |started| started.pid)?;
        let Streaming { pid, input, terminal, outputs } = started;
        let (events, received) = mpsc::channel(EVENTS_WAITING);
        let (end, mut asked_to_end) = mpsc::channel(ENDINGS_WAITING);
        let number = pid.as_raw_nonzero().get();
        let untils: HashMap<_, _> = outputs.iter().map(|(stream, _)| (*stream, Until::default())).collect();
        let job = Job {
            name: name.clone(),
            end,
            events: events.clone(),
            input,
            terminal: terminal.clone(),
            outputs: untils.clone(),
        };
        self.running().insert(number, job);
        let jobs = self.clone();
        let run = async move {
            let mut readers = JoinSet::new();
            for (stream, source) in outputs {
                let as_it_is = (streams != Streams::Lines).then_some(stream);
                let listener = Listener::new(name.clone(), jobs.log.clone(), events.clone(), as_it_is);
                readers.spawn(listener.read(source, untils.get(&stream).cloned().unwrap_or_default()));
            }
            // A listener that is gone shows below.
            let _ = events.send(ProcessEvent::Started { pid: number }).await;
            let ended = run_to_end(pid, terminal, &mut exit, &mut asked_to_end, &events);
            let (exit, grace_until) = ended.await;
            if let Some(until) = grace_until {
                tokio::select! {
                    () = wait_for_what_is_left(pid, &mark, until) => {}
                    // Asked again: no more time.
                    _ = asked_to_end.recv() => {}
                    () = events.closed() => {}
                }
            }
            jobs.running().remove(&number);
            let left = end_what_is_left(pid, &mark).await;
            jobs.processes.reap_all();
            // Before its end is told: what runs next must not meet them.
            jobs.faults.undo_of(number).await;
            jobs.files.undo_of(number).await;
            for until in untils.values() {
                until.ended.cancel();
            }
            readers.join_all().await;
            let (status, signal) = match exit {
                Exit::Status(status) => (Some(status), None),
                Exit::Signal(signal) => (None, Some(signal)),
            };
            let _ = events.send(ProcessEvent::Ended { status, signal, left }).await;
        };
        Ok((run, received))
    }

    /// Asks a program to end, or kills it, if it still runs.
    pub(crate) fn end(&self, pid: i32, ending: Option<Ending>) -> bool {
        // It is full when it was asked often enough.
        self.running()
            .get(&pid)
            .is_some_and(|job| !matches!(job.end.try_send(ending), Err(mpsc::error::TrySendError::Closed(_))))
    }

    /// Asks all programs to end, and waits until they have.
    pub(crate) async fn end_all(&self, ending: Ending) {
        let ends: Vec<_> = self.running().values().map(|job| job.end.clone()).collect();
        for end in ends {
            let _ = end.try_send(Some(ending));
            end.closed().await;
        }
    }

    /// The name of a program, if it runs.
    pub(crate) fn name(&self, pid: i32) -> Option<String> {
        self.running().get(&pid).map(|job| job.name.clone())
    }

    /// Passes on what a program tells about itself; whether there is such a program.
    pub(crate) async fn note(&self, pid: i32, note: Note) -> bool {
        let events = self.running().get(&pid).map(|job| job.events.clone());
        match events {
            Some(events) => events.send(ProcessEvent::Note { note }).await.is_ok(),
            None => false,
        }
    }

    /// Writes to a program's input.
    pub(crate) async fn send_input(&self, pid: i32, bytes: &[u8]) -> Result<(), Failure> {
        let input = self.running().get(&pid).map(|job| job.input.clone()).ok_or_else(|| no_program(pid))?;
        let input =
            input.ok_or_else(|| Failure::bad_request(format!("no input is sent to the program {pid}")))?;
        let written = input.write(bytes).await;
        written.map_err(|error| {
            Failure::new(
                FailureKind::Failed,
                format!("cannot write to the input of the program {pid}: {error}"),
            )
        })
    }

    /// Gives a program's terminal another size.
    pub(crate) fn resize(&self, pid: i32, size: TerminalSize) -> Result<(), Failure> {
        let running = self.running();
        let job = running.get(&pid).ok_or_else(|| no_program(pid))?;
        let terminal = job.terminal.as_ref();
        let terminal =
            terminal.ok_or_else(|| Failure::bad_request(format!("the program {pid} has no terminal")))?;
        pty::resize(terminal.get_ref(), size.columns, size.rows)
            .map_err(|error| Failure::bad_request(error.to_string()))
    }

    /// Reads an output of a program no further.
    pub(crate) fn close_output(&self, pid: i32, stream: OutputStream) -> Result<(), Failure> {
        let running = self.running();
        let job = running.get(&pid).ok_or_else(|| no_program(pid))?;
        let until = job.outputs.get(&stream);
        let until =
            until.ok_or_else(|| Failure::bad_request(format!("the program {pid} has no such output")))?;
        until.closed.cancel();
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Job>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives a program until its process has ended. When it was asked to end, what it has left may take until
/// the moment that comes with that.
async fn run_to_end(
    pid: Pid,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    exit: &mut ExitWatch,
    asked_to_end: &mut mpsc::Receiver<Option<Ending>>,
    events: &mpsc::Sender<ProcessEvent>,
) -> (Exit, Option<Instant>) {
    let mut grace_until = None;
    loop {
        let until = grace_until.unwrap_or_else(|| Instant::now() + FOREVER);
        let asked = tokio::select! {
            exit = exit.ended() => return (exit, grace_until),
            asked = timeout_at(until, asked_to_end.recv()) => asked,
            () = events.closed() => return (kill(pid, exit).await, None),
        };
        let signal = |ending: &Ending| Signal::from_named_raw(ending.signal);
        match asked {
            Ok(Some(Some(ending))) if grace_until.is_none() => {
                let Some(signal) = signal(&ending) else { return (kill(pid, exit).await, None) };
                grace_until = Instant::now().checked_add(Duration::from_millis(ending.grace_ms));
                grace_until = grace_until.or_else(|| Some(Instant::now() + FOREVER));
                // It may have ended this very moment.
                let _ = rustix::process::kill_process_group(pid, signal);
                let front = terminal.as_ref().and_then(|terminal| pty::foreground(terminal.as_fd()));
                if let Some(front) = front.filter(|front| *front != pid) {
                    let _ = rustix::process::kill_process_group(front, signal);
                }
                // One that is stopped takes a signal only when it goes on.
                let _ = rustix::process::kill_process_group(pid, Signal::CONT);
            }
            // Asked again, to be killed, or out of time.
            _ => return (kill(pid, exit).await, None),
        }
    }
}

async fn kill(pid: Pid, exit: &mut ExitWatch) -> Exit {
    // It may have ended this very moment.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    exit.ended().await
}

fn start(program: Program, streams: Streams) -> Result<Streaming, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::Failed, format!("cannot connect the program's streams: {error}"))
    };
    let is_sent = streams == Streams::Bytes { input: Input::Sent };
    let mut terminal = None;
    let streams = match streams {
        Streams::Bytes { input: Input::Inherited } => process::ProgramStreams::InputOfThis,
        Streams::Lines | Streams::Bytes { input: Input::Nothing | Input::Sent } => {
            process::ProgramStreams::Pipes
        }
        Streams::Terminal { size, errors_apart } => {
            let Pty { ours, theirs } = Pty::open(size.columns, size.rows).map_err(failed)?;
            terminal = Some(Arc::new(watch(ours, Interest::READABLE | Interest::WRITABLE).map_err(failed)?));
            process::ProgramStreams::Terminal { theirs, errors_apart }
        }
    };
    let Connected { pid, stdin, stdout, stderr } =
        program.start_on(streams).map_err(|error| Failure::new(why_not_started(&error), chain(&error)))?;
    // A pipe that the event loop does not take is one that nobody reads: it has no other errors.
    let pipes = [
        (OutputStream::Stdout, stdout.and_then(|stdout| OutputSource::pipe(stdout).ok())),
        (OutputStream::Stderr, stderr.and_then(|stderr| OutputSource::pipe(stderr).ok())),
    ];
    let mut outputs: Vec<_> =
        pipes.into_iter().filter_map(|(stream, source)| Some((stream, source?))).collect();
    let mut input = stdin.filter(|_| is_sent).and_then(|stdin| Sink::pipe(stdin).ok());
    if let Some(terminal) = &terminal {
        outputs.push((OutputStream::Stdout, OutputSource::Terminal(Arc::clone(terminal))));
        input = Some(Sink::terminal(Arc::clone(terminal)));
    }
    Ok(Streaming { pid, input, terminal, outputs })
}

fn why_not_started(error: &RunError) -> FailureKind {
    match error {
        RunError::NotFound { .. } | RunError::NoFile { .. } => FailureKind::NoProgram,
        // What its first line names is not there (execvp(3)).
        RunError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NoProgram,
        RunError::Start { .. } => FailureKind::CannotStart,
        RunError::Failed { .. } => FailureKind::Failed,
    }
}

fn no_program(pid: i32) -> Failure {
    Failure::bad_request(format!("no program with the number {pid} was started by this API, or it has ended"))
}
