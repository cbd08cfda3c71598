//! Programs that run inside the group, test functions above all: started, listened to, and ended
//! together with whatever they leave behind.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::{Pid, Signal};
use steading_api::{Failure, FailureKind, Note, ProcessEvent, ProcessSpec, chain};
use steading_logs::{LineSplitter, Stripper};
use steading_plan::env_vars;
use steading_sys::process::{Exit, Program, Started};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::faults::Faults;
use crate::files::Files;
use crate::flood::Flood;
use crate::log::Log;
use crate::processes::Processes;

/// Marks every process that a program starts, however deep, unless it clears its environment.
const MARK: &str = env_vars::STEADING_JOB;

/// How many lines may wait for a listener; a program that floods is held up by its pipe.
const LINES_WAITING: usize = 256;

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
    end: oneshot::Sender<()>,
    events: mpsc::Sender<ProcessEvent>,
}

impl Jobs {
    pub(crate) fn new(processes: Processes, log: Log, faults: Faults, files: Files) -> Self {
        Self { processes, log, faults, files, running: Arc::default() }
    }

    /// Starts a program. The returned future drives it to its end; the events are its life. When
    /// nobody receives them any more it is ended.
    pub(crate) fn start(
        &self,
        spec: ProcessSpec,
    ) -> Result<(impl Future<Output = ()> + Send + use<>, mpsc::Receiver<ProcessEvent>), Failure> {
        let mark = format!("{MARK}={}-{}", spec.name, jiff::Timestamp::now().as_nanosecond());
        let mut env = spec.env;
        env.extend(mark.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.push((env_vars::STEADING_SOCKET.to_owned(), crate::owner::socket_path()));
        let program = Program {
            argv: spec.argv,
            package: None,
            env,
            cwd: None,
            fds: Vec::new(),
            network_capabilities: true,
        };
        let started = self.processes.start(|| program.start(), |started| started.pid);
        let (started, mut exit) = started.map_err(|error| Failure {
            kind: FailureKind::Failed,
            message: chain(&error),
            console: Vec::new(),
        })?;
        let Started { pid, stdin, stdout, stderr } = started;
        drop(stdin);
        let (events, received) = mpsc::channel(LINES_WAITING);
        let (end, mut asked_to_end) = oneshot::channel();
        let number = pid.as_raw_nonzero().get();
        self.running().insert(number, Job { name: spec.name.clone(), end, events: events.clone() });
        let jobs = self.clone();
        let name = spec.name;
        let run = async move {
            let mut readers = JoinSet::new();
            for stream in [OwnedFd::from(stdout), OwnedFd::from(stderr)] {
                readers.spawn(read_lines(stream, name.clone(), jobs.log.clone(), events.clone()));
            }
            // A listener that is gone shows in the select below.
            let _ = events.send(ProcessEvent::Started { pid: number }).await;
            let exit = tokio::select! {
                exit = exit.ended() => exit,
                () = events.closed() => stop(pid, &mut exit).await,
                _ = &mut asked_to_end => stop(pid, &mut exit).await,
            };
            jobs.running().remove(&number);
            let left = end_what_is_left(pid, &mark);
            // Before its end is told: what runs next must not meet them.
            jobs.faults.undo_of(number).await;
            jobs.files.undo_of(number).await;
            // Now nobody holds the other ends.
            readers.join_all().await;
            let (status, signal) = match exit {
                Exit::Status(status) => (Some(status), None),
                Exit::Signal(signal) => (None, Some(signal)),
            };
            let _ = events.send(ProcessEvent::Ended { status, signal, left }).await;
        };
        Ok((run, received))
    }

    /// Asks a program to end, if it still runs.
    pub(crate) fn end(&self, pid: i32) -> bool {
        self.running().remove(&pid).is_some_and(|job| job.end.send(()).is_ok())
    }

    /// What a program is called, if it runs.
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

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Job>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stop(pid: Pid, exit: &mut crate::processes::ExitWatch) -> Exit {
    // It may have ended this very moment.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    exit.ended().await
}

async fn read_lines(stream: OwnedFd, name: String, log: Log, events: mpsc::Sender<ProcessEvent>) {
    let Ok(mut stream) = pipe::Receiver::from_owned_fd(stream) else { return };
    let mut listener =
        Listener { name, log, events, stripper: Stripper::new(), splitter: LineSplitter::new() };
    let mut flood = Flood::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            break;
        }
        let passed = flood.pass(&buffer[..read]);
        if passed > 0 {
            listener.bytes(&buffer[..passed]).await;
        }
    }
    if let Some(end) = flood.end() {
        if end.left_out > 0 {
            listener.end_line().await;
            listener.line(format!("[{} bytes of output are left out here]", end.left_out)).await;
        }
        listener.bytes(&end.bytes).await;
    }
    listener.end_line().await;
}

/// Takes the output of one stream apart, for the log and for who listens.
struct Listener {
    name: String,
    log: Log,
    events: mpsc::Sender<ProcessEvent>,
    stripper: Stripper,
    splitter: LineSplitter,
}

impl Listener {
    async fn bytes(&mut self, bytes: &[u8]) {
        let (mut text, mut lines) = (String::new(), Vec::new());
        self.stripper.push(bytes, &mut text);
        self.splitter.push(&text, &mut lines);
        for line in lines {
            self.line(line.text).await;
        }
    }

    /// What is said so far is a line.
    async fn end_line(&mut self) {
        let (mut text, mut lines) = (String::new(), Vec::new());
        self.stripper.reset(&mut text);
        self.splitter.push(&text, &mut lines);
        self.splitter.finish_line(&mut lines);
        for line in lines {
            self.line(line.text).await;
        }
    }

    async fn line(&self, text: String) {
        self.log.test(Some(self.name.clone()), text.clone()).await;
        // Output is read to its end even when nobody listens, for the log.
        let _ = self.events.send(ProcessEvent::Line { text }).await;
    }
}

/// Ends every process that carries the mark or belongs to the program's process group, and returns
/// what they were called. Looks again until there is none: one may have started another meanwhile.
fn end_what_is_left(leader: Pid, mark: &str) -> Vec<String> {
    /// An exec takes a fraction of a millisecond, unless it waits for a disk.
    const LOOKS_AT_EXECS: usize = 1000;
    let mut names = Vec::new();
    let mut known = Vec::new();
    let mut looks = 0;
    loop {
        let Sight { marked, becoming_another } = look_for(mark);
        let found: Vec<(Pid, String)> = marked.into_iter().filter(|(pid, _)| !known.contains(pid)).collect();
        if becoming_another && looks < LOOKS_AT_EXECS {
            looks += 1;
            std::thread::yield_now();
        } else if found.is_empty() {
            break;
        }
        for (pid, name) in found {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            known.push(pid);
            names.push(name);
        }
    }
    // For hosts whose /proc is not ours, and for those that cleared their environment.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    names
}

/// What a look at all processes tells.
#[derive(Default)]
struct Sight {
    /// Those that carry the mark, with their command lines.
    marked: Vec<(Pid, String)>,
    /// At least one is in the middle of an exec, when it has no environment to look at.
    becoming_another: bool,
}

fn look_for(mark: &str) -> Sight {
    let mut sight = Sight::default();
    let Ok(entries) = fs::read_dir("/proc") else { return sight };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    for pid in pids {
        let dir = Utf8PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        // It may have ended, or be another user's.
        let Ok(environment) = fs::read(dir.join("environ")) else { continue };
        if environment.is_empty() {
            sight.becoming_another |= is_in_exec(&dir);
        } else if environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()) {
            sight.marked.push((pid, command_line(&dir)));
        }
    }
    sight
}

/// Whether a process whose environment was found empty is getting one, or has got it since: between
/// the kernel's `begin_new_exec` and `create_elf_tables` it has none, and no address for it either.
fn is_in_exec(dir: &Utf8Path) -> bool {
    fs::read_to_string(dir.join("stat")).is_ok_and(|stat| may_have_environment(&stat))
}

/// Reads `env_start` and `env_end`, fields 50 and 51 of proc_pid_stat(5). Only a process that cleared
/// its environment has both, and they are the same; one that has ended has none.
fn may_have_environment(stat: &str) -> bool {
    // After the name, which may hold anything, comes the state, field 3.
    let fields = stat.rsplit_once(") ").map(|(_, tail)| tail);
    let mut fields = fields.unwrap_or_default().split_ascii_whitespace();
    let has_ended = fields.next().is_none_or(|state| state == "Z" || state == "X");
    let (from, to) = (fields.nth(50 - 4), fields.next());
    !has_ended && (from == Some("0") || from != to)
}

fn command_line(dir: &Utf8Path) -> String {
    let line = fs::read(dir.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of proc_pid_stat(5), whose fields up to the 49th and the 52nd do not matter.
    fn stat(name: &str, state: char, start: u64, end: u64) -> String {
        format!("7 ({name}) {state}{} {start} {end} 0\n", " 1".repeat(46))
    }

    #[test]
    fn a_process_that_cleared_its_environment_is_not_looked_at_again() {
        assert!(!may_have_environment(&stat("sleep", 'S', 4096, 4096)));
    }

    #[test]
    fn a_process_in_an_exec_and_one_that_has_just_been_are_looked_at_again() {
        assert!(may_have_environment(&stat("sh", 'R', 0, 0)));
        assert!(may_have_environment(&stat("a) b", 'R', 4096, 4100)));
        let ours = fs::read_to_string("/proc/self/stat").expect("our own state");
        assert!(may_have_environment(&ours), "we have an environment: {ours}");
    }

    #[test]
    fn a_process_that_has_ended_is_not_looked_at_again() {
        assert!(!may_have_environment(&stat("sleep", 'Z', 0, 0)));
        assert!(!may_have_environment(""));
    }
}
