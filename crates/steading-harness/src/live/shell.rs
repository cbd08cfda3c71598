//! Commands and shells in guests, with this program's input and output.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fs_err as fs;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, Sig};
use rustix::fs::{FileType, SeekFrom};
use rustix::process::Signal;
use steading_api::Ended;
use steading_report::output::{Output, Stderr};
use steading_sys::namespace;
use steading_sys::signal::{ENDING, Received, Signals, not_ignored};
use tokio::time::timeout_at;

use crate::event_loop::wait_for;
use crate::exit_code;
use crate::groups::LiveGroup;
use crate::input::{StandardInput, is_in_background};
use crate::interrupts::Interrupts;
use crate::live::remote::{CommandFilter, CommandNote, GUARD, Wrapped};
use crate::ssh::{ChannelEnd, Ssh, status_of_signal};
use crate::terminal::{self, Raw};

/// The exit status for a program that a signal has ended, less the number of the signal.
const SIGNALLED: u8 = 128;

/// The grace period of an interrupted command.
const GRACE: Duration = Duration::from_secs(10);

/// How long the end of a command that was killed may take.
const KILLED: Duration = Duration::from_secs(5);

/// How long a guard may take to end.
const RELEASED: Duration = Duration::from_secs(2);

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How a command is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// It gets no input.
    pub(crate) no_stdin: bool,
    /// It goes on when this program ends before it does.
    pub(crate) detach: bool,
}

enum Wanted<'a> {
    Shell,
    Command(&'a str, How),
}

/// Runs a command; the exit status is the command's.
pub(crate) fn execute(group: &LiveGroup, vm: &str, command: &str, how: How) -> anyhow::Result<u8> {
    run(group, vm, &Wanted::Command(command, how))
}

/// Opens a shell.
pub(crate) fn open(group: &LiveGroup, vm: &str) -> anyhow::Result<u8> {
    run(group, vm, &Wanted::Shell)
}

fn run(group: &LiveGroup, vm: &str, wanted: &Wanted) -> anyhow::Result<u8> {
    let address = wait_for(group.vm_that_runs(vm))?.address;
    enter(group)?;
    wait_for(async {
        let ssh = connect(address, &group.status.ssh_key, vm).await?;
        let session = ShellSession::begin(vm, &ssh, wanted).await?;
        // A guest whose kernel has panicked closes no connection.
        tokio::select! {
            biased;
            status = session.run() => status,
            ended = group.client.ended(vm) => {
                let Ended { reason, console } = ended?;
                let console = console.join("\n    ");
                anyhow::bail!(
                    "VM {vm}: {reason} before the command ended; the last lines of its console:\n    {console}"
                )
            }
        }
    })
}

async fn connect(address: Ipv6Addr, key: &str, vm: &str) -> anyhow::Result<Ssh> {
    let connected = Ssh::connect(address, key).await;
    connected.with_context(|| format!("VM {vm}: cannot log in\nhint: check its boot with `console {vm}`"))
}

/// Enters the group's network, unless this program runs in it.
pub(crate) fn enter(group: &LiveGroup) -> anyhow::Result<()> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    let owner = group.local_owner()?;
    if network("self")? == network(&owner.as_raw_nonzero().to_string())? {
        return Ok(());
    }
    namespace::enter_network(owner)
        .with_context(|| format!("cannot enter the network of group {}", group.name()))
}

/// A command or a shell that runs in a guest.
struct ShellSession<'a> {
    vm: &'a str,
    channel: Channel<Msg>,
    /// Ends the command when this program does.
    guard: Option<Channel<Msg>>,
    detach: bool,
    signals: Signals,
    input: StandardInput,
    /// Whether what the command does not read of a file is given back.
    is_counted: bool,
    /// How many bytes of input were sent.
    sent: u64,
    sieve: Option<CommandFilter>,
    ending: ChannelEnd,
    /// When something has to be done, whatever comes.
    deadline: Option<Instant>,
    is_killed: bool,
    /// The signal by which this program was asked to end.
    interrupted: Option<Signal>,
    raw: Option<Raw>,
}

/// What may come next.
enum SessionEvent {
    Message(Option<ChannelMsg>),
    Typed(std::io::Result<usize>),
    Signal(std::io::Result<Received>),
    /// The deadline, or that of the command's last output.
    Time,
}

impl<'a> ShellSession<'a> {
    async fn begin(vm: &'a str, ssh: &Ssh, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let mut signals = not_ignored(&ENDING);
        // After SIGCONT this program may be in the foreground again.
        signals.extend([Signal::WINCH, Signal::CONT]);
        let signals = Signals::open(&signals)?;
        let channel = ssh.open().await?;
        let mut session = ShellSession {
            vm,
            channel,
            guard: None,
            detach: false,
            signals,
            input: StandardInput::Nothing,
            is_counted: false,
            sent: 0,
            sieve: None,
            ending: ChannelEnd::default(),
            deadline: None,
            is_killed: false,
            interrupted: None,
            raw: None,
        };
        match wanted {
            Wanted::Command(command, how) => {
                let has_input = !how.no_stdin && !is_in_background();
                session.is_counted = has_input && is_file();
                session.detach = how.detach;
                let now = jiff::Timestamp::now().as_nanosecond();
                let token = format!("{}-{now}", std::process::id());
                let wrapped = Wrapped::new(command, &token, session.is_counted);
                session.sieve = Some(wrapped.sieve());
                session.channel.exec(true, wrapped.line.as_str()).await?;
                if has_input {
                    session.input = StandardInput::open();
                } else {
                    session.channel.eof().await?;
                }
                if !how.detach {
                    // Without it the command is only less sure to end.
                    session.guard = guard(ssh).await.ok();
                }
            }
            Wanted::Shell => {
                let (columns, rows) = terminal::size();
                session.channel.request_pty(false, &terminal::kind(), columns, rows, 0, 0, &[]).await?;
                session.channel.request_shell(true).await?;
                session.input = StandardInput::open();
                session.raw = Raw::enter()?;
            }
        }
        Ok(session)
    }

    async fn run(mut self) -> anyhow::Result<u8> {
        let (mut buffer, mut interrupts) = (vec![0; 16 * 1024], Interrupts::default());
        loop {
            let until = [self.deadline, self.ending.quiet_until].into_iter().flatten().min();
            let until = until.unwrap_or_else(|| Instant::now() + FOREVER);
            let come = tokio::select! {
                message = timeout_at(until.into(), self.channel.wait()) => {
                    message.map_or(SessionEvent::Time, SessionEvent::Message)
                }
                read = self.input.read(&mut buffer), if !matches!(self.input, StandardInput::Nothing) => SessionEvent::Typed(read),
                signal = self.signals.next_received() => SessionEvent::Signal(signal),
            };
            match come {
                SessionEvent::Message(None) => break,
                SessionEvent::Message(Some(message)) => self.take(message).await?,
                SessionEvent::Typed(read) => self.send(&buffer[..read?]).await?,
                SessionEvent::Signal(signal) => match signal? {
                    Received { signal: Signal::WINCH, .. } => {
                        let (columns, rows) = terminal::size();
                        self.channel.window_change(columns, rows, 0, 0).await?;
                    }
                    Received { signal: Signal::CONT, .. } => {}
                    received => {
                        let count = interrupts.take(received, Instant::now());
                        if let Some(count) = count
                            && self.interrupt(received.signal, count).await
                        {
                            return Ok(self.signalled(received.signal));
                        }
                    }
                },
                SessionEvent::Time
                    if self.ending.quiet_until.is_some_and(|until| until <= Instant::now()) =>
                {
                    drop(self.raw.take());
                    self.note("the command has ended, but a process that it started still holds its output");
                    break;
                }
                SessionEvent::Time if self.is_killed => break,
                SessionEvent::Time => self.kill().await,
            }
        }
        drop(self.raw.take());
        if let Some(sieve) = self.sieve.take() {
            write(Output::Stderr, sieve.finish()).await?;
        }
        if let Some(guard) = self.guard.take() {
            release(guard).await;
        }
        match (self.ending.status, self.interrupted) {
            (Some(status), _) => Ok(u8::try_from(status).unwrap_or(exit_code::REMOTE_FAILED)),
            (None, Some(signal)) => Ok(self.signalled(signal)),
            (None, None) => {
                anyhow::bail!("VM {}: the connection ended before the command did", self.vm)
            }
        }
    }

    async fn take(&mut self, message: ChannelMsg) -> anyhow::Result<()> {
        match message {
            ChannelMsg::Data { data } => write(Output::Stdout, data.to_vec()).await?,
            ChannelMsg::ExtendedData { data, .. } => {
                let (passed, words) = match &mut self.sieve {
                    Some(sieve) => sieve.push(&data),
                    None => (data.to_vec(), Vec::new()),
                };
                write(Output::Stderr, passed).await?;
                for word in words {
                    self.told(word).await;
                }
            }
            ChannelMsg::ExitSignal { ref signal_name, .. } => {
                self.ending.ended(status_of_signal(signal_name));
            }
            ChannelMsg::ExitStatus { exit_status } => {
                self.ending.ended(i32::try_from(exit_status).unwrap_or(exit_code::REMOTE_FAILED.into()));
            }
            _ => {}
        }
        self.ending.heard();
        Ok(())
    }

    async fn told(&mut self, word: CommandNote) {
        match word {
            CommandNote::Group(group) => {
                if let Some(guard) = &self.guard {
                    let _ = guard.data(format!("{group}\n").as_bytes()).await;
                }
            }
            CommandNote::End => {
                self.input = StandardInput::Nothing;
                let _ = self.channel.eof().await;
            }
            // The next program that reads this file goes on where the command has stopped.
            CommandNote::Left(left) => {
                let back = i64::try_from(left.min(self.sent)).unwrap_or(0);
                let _ = rustix::fs::seek(rustix::stdio::stdin(), SeekFrom::Current(-back));
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if bytes.is_empty() {
            self.input = StandardInput::Nothing;
            return Ok(self.channel.eof().await?);
        }
        self.sent += bytes.len() as u64;
        // A command that has ended takes no input any more.
        if self.channel.data(bytes).await.is_err() {
            self.input = StandardInput::Nothing;
        }
        Ok(())
    }

    /// Whether this program ends at once.
    async fn interrupt(&mut self, signal: Signal, count: u32) -> bool {
        self.interrupted = Some(signal);
        if self.sieve.is_none() {
            // A shell on a terminal is hung up on by its end, and Ctrl-C is a key.
            return true;
        }
        if self.detach {
            self.note("the command continues; its output is lost");
            return true;
        }
        if count > 1 {
            self.kill().await;
            return false;
        }
        self.deadline = Some(Instant::now() + GRACE);
        match signal {
            Signal::INT => self.signal("INT", Sig::INT).await,
            Signal::HUP => self.signal("HUP", Sig::HUP).await,
            _ => self.signal("TERM", Sig::TERM).await,
        }
        false
    }

    /// Sends the command's process group a signal. One that cannot be sent is made up for when the time is over.
    async fn signal(&self, name: &str, signal: Sig) {
        let _ = match &self.guard {
            Some(guard) => guard.data(format!("{name}\n").as_bytes()).await,
            None => self.channel.signal(signal).await,
        };
    }

    /// Ends the command for good.
    async fn kill(&mut self) {
        self.is_killed = true;
        self.deadline = Some(Instant::now() + KILLED);
        self.signal("KILL", Sig::KILL).await;
    }

    fn note(&self, text: &str) {
        use std::io::Write as _;
        // There is nobody to tell that it cannot be told.
        let _ = writeln!(Stderr, "note: VM {}: {text}", self.vm);
    }

    #[expect(clippy::unused_self, reason = "the terminal is put back with it")]
    fn signalled(self, signal: Signal) -> u8 {
        SIGNALLED.saturating_add(u8::try_from(signal.as_raw()).unwrap_or(0))
    }
}

/// A second command next to the first, which waits for the end of the connection.
async fn guard(ssh: &Ssh) -> anyhow::Result<Channel<Msg>> {
    let channel = ssh.open().await?;
    channel.exec(false, format!("exec /bin/sh -c {}", crate::vm::quoted(GUARD))).await?;
    Ok(channel)
}

/// Tells a guard that there is nothing to end, and waits until it knows: what is sent may not leave this program
/// before its end.
async fn release(mut guard: Channel<Msg>) {
    let limit = Instant::now() + RELEASED;
    let released = async {
        // It may have broken with the connection.
        let _ = guard.data(b"ended\n".as_slice()).await;
        while guard.wait().await.is_some() {}
    };
    let _ = timeout_at(limit.into(), released).await;
}

/// Whether standard input is a file with a position, which others may go on from.
fn is_file() -> bool {
    let stdin = rustix::stdio::stdin();
    let is_regular = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    rustix::fs::fstat(stdin).is_ok_and(is_regular)
}

/// Writes bytes as they are; signals are still answered while it waits for its reader.
async fn write(output: Output, bytes: Vec<u8>) -> anyhow::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = tokio::task::spawn_blocking(move || output.write_bytes(&bytes)).await?;
    // What is lost of standard error is nobody's to tell.
    if output == Output::Stdout { written.context("cannot write to standard output") } else { Ok(()) }
}
