//! The one place where processes are started.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use camino::Utf8PathBuf;
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::Pid;
use steading_plan::{ProcessMark, env_vars};

use crate::capability;
use crate::pty;
pub use crate::run_error::RunError;
use crate::search::resolve;
use crate::signal;
use crate::start_error::explain;

/// How much of a failed program's error output is kept, in bytes.
const STDERR_KEPT: usize = 2000;

/// Runs `program` to its end with no input and returns what it printed.
///
/// # Errors
///
/// When it cannot be started or does not end with status 0.
pub fn run<A: Into<OsString>>(
    program: &str,
    package: &'static str,
    args: impl IntoIterator<Item = A>,
) -> Result<Vec<u8>, RunError> {
    run_between(program, package, args, Stdio::null(), Stdio::piped())
}

/// Runs `program` to its end between two given streams; the way to hand it open files.
///
/// It finds them as `/proc/self/fd/0` and `/proc/self/fd/1`. Returns what it printed if `stdout` is
/// [`Stdio::piped`], else nothing.
///
/// # Errors
///
/// When it cannot be started or does not end with status 0.
pub fn run_between<A: Into<OsString>>(
    program: &str,
    package: &'static str,
    args: impl IntoIterator<Item = A>,
    stdin: Stdio,
    stdout: Stdio,
) -> Result<Vec<u8>, RunError> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let output = unblocked(&mut Command::new(resolve(program)))
        .args(&args)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| explain(program, Some(package), source))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut command = program.to_owned();
    for arg in &args {
        command.push(' ');
        command.push_str(&arg.to_string_lossy());
    }
    let tail = &output.stderr[output.stderr.len().saturating_sub(STDERR_KEPT)..];
    let stderr = String::from_utf8_lossy(tail).trim().to_owned();
    Err(RunError::Failed { command, status: output.status, stderr })
}

/// Becomes this program, with the streams and the terminal of this process; returns only why it cannot.
pub fn replace<A: Into<OsString>>(
    program: &str,
    package: &'static str,
    args: impl IntoIterator<Item = A>,
) -> RunError {
    let args = args.into_iter().map(Into::into);
    explain(program, Some(package), unblocked(&mut Command::new(resolve(program))).args(args).exec())
}

/// Has a program begin with no signal blocked. The caller may wait for some (see [`crate::signal`]), and the
/// standard library passes that on: a shell that has SIGCHLD blocked waits for ever.
fn unblocked(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one system call and touches no memory of the caller.
    unsafe {
        command.pre_exec(|| {
            signal::unblock_all();
            Ok(())
        })
    }
}

/// A program to start in the background, in a process group of its own.
#[derive(Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The Debian package that has it, for when it is missing and known to be in one.
    pub package: Option<&'static str>,
    /// Variables added to the caller's environment.
    pub env: Vec<(String, String)>,
    /// Where it starts; the caller's directory when `None`.
    pub cwd: Option<Utf8PathBuf>,
    /// Open files it gets, each with its number there.
    pub fds: Vec<(OwnedFd, u32)>,
    /// Whether it may change the group's network; else it has no capability at all.
    pub network_capabilities: bool,
}

/// A program that was started. Its end is learnt by [`reap`], not here.
#[derive(Debug)]
pub struct Started {
    /// Its process, which leads a process group of the same number.
    pub pid: Pid,
    /// A pipe into it.
    pub stdin: ChildStdin,
    /// What it prints.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

/// Where the standard streams of a program lead.
#[derive(Debug)]
pub enum ProgramStreams {
    /// A pipe for each.
    Pipes,
    /// The input of this process, and a pipe for each output.
    InputOfThis,
    /// This terminal, which becomes the controlling terminal of a session of its own. The program's
    /// errors go there, too, or into a pipe.
    Terminal {
        /// The program's end (pty(7)).
        theirs: OwnedFd,
        /// Whether errors go into a pipe.
        errors_apart: bool,
    },
}

/// A program that was started with [`Program::start_on`]; the pipes that it was given.
#[derive(Debug)]
pub struct Connected {
    /// Its process, which leads a process group of the same number.
    pub pid: Pid,
    /// A pipe into it.
    pub stdin: Option<ChildStdin>,
    /// Its output.
    pub stdout: Option<ChildStdout>,
    /// Its errors.
    pub stderr: Option<ChildStderr>,
}

/// Which process it is that all programs end with, once it was said.
static ENDS_WITH: OnceLock<String> = OnceLock::new();

/// From now on every [`Program`] that this process starts ends with it, by the kernel, and is marked as its own.
pub(crate) fn all_end_with_this(own: &ProcessMark) {
    // It is said once in the life of a process.
    let _ = ENDS_WITH.set(own.to_string());
}

impl Program {
    /// Starts it, with pipes for its three standard streams.
    ///
    /// # Errors
    ///
    /// When it is not installed, or the kernel refuses.
    pub fn start(self) -> Result<Started, RunError> {
        let Connected { pid, stdin, stdout, stderr } = self.start_on(ProgramStreams::Pipes)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            unreachable!("all three streams were asked to be pipes");
        };
        Ok(Started { pid, stdin, stdout, stderr })
    }

    /// Starts it with these standard streams.
    ///
    /// # Errors
    ///
    /// When it is not installed, or the kernel refuses.
    pub fn start_on(self, streams: ProgramStreams) -> Result<Connected, RunError> {
        let Some((program, args)) = self.argv.split_first() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the command line is empty");
            return Err(RunError::Start { program: String::new(), hint: String::new(), source });
        };
        let failed = |source| explain(program, self.package, source);
        let mut command = Command::new(resolve(program));
        unblocked(&mut command).args(args).envs(self.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match streams {
            ProgramStreams::Pipes => {
                command.process_group(0);
            }
            ProgramStreams::InputOfThis => {
                command.stdin(Stdio::inherit()).process_group(0);
            }
            ProgramStreams::Terminal { theirs, errors_apart } => {
                let copy = || theirs.try_clone().map_err(failed);
                command.stdin(copy()?).stdout(copy()?);
                if !errors_apart {
                    command.stderr(copy()?);
                }
                // The first process of a session leads a process group, too (setsid(2)).
                // SAFETY: the closure makes two system calls and touches no memory of the caller.
                unsafe { command.pre_exec(pty::lead_session_of_stdin) };
            }
        }
        if let Some(cwd) = self.cwd {
            command.current_dir(cwd);
        }
        let mappings = self
            .fds
            .into_iter()
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd: child_fd.cast_signed() })
            .collect();
        command.fd_mappings(mappings).map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        if !self.network_capabilities {
            // SAFETY: the closure makes one system call and touches no memory of the caller.
            unsafe { command.pre_exec(capability::clear_ambient) };
        }
        if let Some(mark) = ENDS_WITH.get() {
            command.env(env_vars::STEADING_OWNER, mark);
            let starter = rustix::process::getpid().as_raw_nonzero().get();
            // SAFETY: the closure makes two system calls and touches no memory of the caller.
            unsafe { command.pre_exec(move || end_with_parent(starter)) };
        }
        let mut child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a PID fits");
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Connected { pid, stdin, stdout, stderr })
    }
}

/// Asks the kernel to end this process when its parent, which must be this one, does.
///
/// # Errors
///
/// When the parent has ended already.
pub fn end_with_parent(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The kernel tells of the parent's end from now on; of one before, it never would.
    let present = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if present == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// What a process took in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most memory that it had at once, in KiB, shared memory included (`ru_maxrss`, getrusage(2)).
    pub memory_kib: u64,
    /// CPU time, its own and the kernel's for it.
    pub cpu: Duration,
}

/// Takes the end of one child that has ended, whichever it is. For PID 1 of a group, which owns
/// every process below it; anybody else would steal the ends of a library's children.
pub fn reap() -> Option<(Pid, Exit, Usage)> {
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call, which fills them.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    // None has ended, or there is none: 0 and -1 (wait4(2)).
    let pid = if pid > 0 { Pid::from_raw(pid)? } else { return None };
    let exit = if libc::WIFEXITED(status) {
        Exit::Status(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    let time = |time: libc::timeval| {
        let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    let memory_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Some((pid, exit, Usage { memory_kib, cpu: time(usage.ru_utime) + time(usage.ru_stime) }))
}
