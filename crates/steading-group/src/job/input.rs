//! Input that is sent to a program.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

/// Ctrl-D, which ends the input of a program that reads lines from a terminal (VEOF, termios(3)).
const END_OF_INPUT: &[u8] = b"\x04";

/// The way into a program. Requests are served one after the other.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Mutex<Way>>);

#[derive(Debug)]
enum Way {
    Pipe(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
    Closed,
}

impl Sink {
    pub(super) fn pipe(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Way::Pipe(pipe::Sender::from_owned_fd(fd.into())?)))))
    }

    pub(super) fn terminal(terminal: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self(Arc::new(Mutex::new(Way::Terminal(terminal))))
    }

    /// Writes all of it; nothing is the end of input.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut way = self.0.lock().await;
        match &mut *way {
            Way::Pipe(_) if bytes.is_empty() => {
                *way = Way::Closed;
                Ok(())
            }
            Way::Pipe(pipe) => pipe.write_all(bytes).await,
            Way::Terminal(terminal) => {
                let mut rest = if bytes.is_empty() { END_OF_INPUT } else { bytes };
                while !rest.is_empty() {
                    let write = |fd: &OwnedFd| Ok(rustix::io::write(fd, rest)?);
                    let written = terminal.async_io(Interest::WRITABLE, write).await?;
                    rest = &rest[written..];
                }
                Ok(())
            }
            Way::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
