//! The program's standard streams: what it reads is this program's input, and what it writes goes to this
//! program's outputs, byte by byte.

use std::collections::HashSet;
use std::io;

use rustix::termios::isatty;
use steading_api::{
    Client, ClientError, Input as ProgramInput, Lines, OutputStream, ProcessEvent, Streams, TerminalSize,
};
use steading_report::output::Output;
use tokio::sync::mpsc;

use crate::input::{StandardInput, is_in_background};
use crate::terminal::{self, Raw};

/// How this program's streams become the program's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) streams: Streams,
}

impl Connection {
    /// As this program was started. The program gets a terminal where this one has one for its input and its
    /// output. Where only one of them is a terminal, somebody else may read its keys (`run … | less`), and
    /// nothing of the program's output may be changed.
    pub(super) fn of_this_program() -> Self {
        let (stdin, stdout, stderr) =
            (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let streams = if is_in_background() {
            // Reading would stop this process, or take the keys of the shell.
            Streams::Bytes { input: ProgramInput::Nothing }
        } else if isatty(stdin) && isatty(stdout) {
            Streams::Terminal { size: size(), errors_apart: !isatty(stderr) }
        } else {
            Streams::Bytes { input: ProgramInput::Inherited }
        };
        Self { streams }
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self.streams, Streams::Terminal { .. })
    }

    /// Puts this program's terminal into raw mode, if the program has one of its own that edits lines.
    pub(super) fn enter(self) -> io::Result<Option<Raw>> {
        if self.is_terminal() { Raw::enter() } else { Ok(None) }
    }
}

/// The size of this program's terminal.
pub(super) fn size() -> TerminalSize {
    let (columns, rows) = terminal::size();
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    TerminalSize { columns: short(columns), rows: short(rows) }
}

/// Writes what the program writes, and passes on everything else.
pub(super) async fn pass_on_output(
    client: Client,
    mut events: Lines<ProcessEvent>,
    sender: mpsc::Sender<Result<ProcessEvent, ClientError>>,
) {
    let (mut pid, mut closed) = (None, HashSet::new());
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        match event {
            ProcessEvent::Output { stream, bytes } => {
                if closed.contains(&stream) {
                    continue;
                }
                let output = match stream {
                    OutputStream::Stdout => Output::Stdout,
                    OutputStream::Stderr => Output::Stderr,
                };
                // It may block, and signals are still to be answered.
                let written = tokio::task::spawn_blocking(move || output.write_bytes(&bytes.0)).await;
                if !matches!(written, Ok(Ok(()))) {
                    // The failure is remembered by the output. The program meets it with its next write, as if
                    // it wrote there itself.
                    closed.insert(stream);
                    if let Some(pid) = pid {
                        let _ = client.close_output(pid, stream).await;
                    }
                }
            }
            event => {
                if let ProcessEvent::Started { pid: started } = event {
                    pid = Some(started);
                }
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Types on the program's terminal what is typed on this one.
pub(super) async fn pass_on_keys(client: Client, pid: i32) {
    let (mut input, mut buffer) = (StandardInput::open(), [0; 1024]);
    while let Ok(read) = input.read(&mut buffer).await {
        // Nothing is the end of input for the program, too. When it has ended, nobody types any more.
        if client.send_input(pid, &buffer[..read]).await.is_err() || read == 0 {
            return;
        }
    }
}
