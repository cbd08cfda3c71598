//! What a program writes: read to its end, logged in lines, and passed on to the one that started it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use steading_api::{OutputStream, ProcessEvent, RawBytes};
use steading_logs::{LineSplitter, Stripper};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flood::Flood;
use crate::log::Log;

/// How much is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// How much is still read once the program has ended, in bytes: what it wrote is in its pipe by then, and
/// none is larger (`/proc/sys/fs/pipe-max-size`).
const LEFT_IN_PIPE: usize = 1 << 20;

/// Where a program's output comes from.
pub(super) enum OutputSource {
    Pipe(pipe::Receiver),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl OutputSource {
    pub(super) fn pipe(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self::Pipe(pipe::Receiver::from_owned_fd(fd.into())?))
    }

    /// 0 at the end, of whatever kind it is.
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self {
            Self::Pipe(pipe) => pipe.read(buffer).await.unwrap_or(0),
            Self::Terminal(terminal) => {
                let read =
                    terminal.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await;
                // Nobody has the other end any more: EIO (pty(7)).
                read.unwrap_or(0)
            }
        }
    }

    /// What is there at this moment; 0 if there is nothing.
    fn read_now(&mut self, buffer: &mut [u8]) -> usize {
        match self {
            Self::Pipe(pipe) => pipe.try_read(buffer).unwrap_or(0),
            Self::Terminal(terminal) => loop {
                match rustix::io::read(terminal.get_ref(), &mut *buffer) {
                    Err(Errno::INTR) => {}
                    read => return read.unwrap_or(0),
                }
            },
        }
    }
}

/// When reading ends before the stream does.
#[derive(Clone, Debug, Default)]
pub(super) struct Until {
    /// Nobody wants more of it: what the program writes from now on fails.
    pub(super) closed: CancellationToken,
    /// The program has ended. A process that it left, and that could not be found, may still hold its output:
    /// that is not waited for.
    pub(super) ended: CancellationToken,
}

/// Takes the output of one stream apart, for the log and for who listens.
pub(super) struct Listener {
    name: String,
    log: Log,
    events: mpsc::Sender<ProcessEvent>,
    /// Where it is passed on as it is; else in lines.
    as_it_is: Option<OutputStream>,
    stripper: Stripper,
    splitter: LineSplitter,
}

impl Listener {
    pub(super) fn new(
        name: String,
        log: Log,
        events: mpsc::Sender<ProcessEvent>,
        as_it_is: Option<OutputStream>,
    ) -> Self {
        Self { name, log, events, as_it_is, stripper: Stripper::new(), splitter: LineSplitter::new() }
    }

    /// Reads it all.
    pub(super) async fn read(mut self, mut source: OutputSource, until: Until) {
        let mut flood = Flood::default();
        let mut buffer = vec![0; PIECE];
        loop {
            let read = tokio::select! {
                // What was written before the end is read first.
                biased;
                () = until.closed.cancelled() => break,
                read = source.read(&mut buffer) => read,
                () = until.ended.cancelled() => break,
            };
            if read == 0 {
                break;
            }
            self.take(&buffer[..read], &mut flood).await;
        }
        let mut left = LEFT_IN_PIPE;
        while until.ended.is_cancelled() && !until.closed.is_cancelled() && left > 0 {
            let read = source.read_now(&mut buffer[..PIECE.min(left)]);
            if read == 0 {
                break;
            }
            left -= read;
            self.take(&buffer[..read], &mut flood).await;
        }
        // A program that goes on writing fails from here on.
        drop(source);
        if let Some(end) = flood.end() {
            if end.left_out > 0 {
                self.end_line().await;
                self.line(format!("[{} bytes of output are left out here]", end.left_out)).await;
            }
            self.lines(&end.bytes).await;
        }
        self.end_line().await;
    }

    async fn take(&mut self, bytes: &[u8], flood: &mut Flood) {
        if let Some(stream) = self.as_it_is {
            let bytes = RawBytes(bytes.to_vec());
            // Output is read to its end even when nobody listens, for the log.
            let _ = self.events.send(ProcessEvent::Output { stream, bytes }).await;
        }
        let passed = flood.pass(bytes);
        if passed > 0 {
            self.lines(&bytes[..passed]).await;
        }
    }

    async fn lines(&mut self, bytes: &[u8]) {
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
        if self.as_it_is.is_none() {
            // As above.
            let _ = self.events.send(ProcessEvent::Line { text }).await;
        }
    }
}
