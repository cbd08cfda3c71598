//! One connection, from its first request to its end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer::{self, Answer, Body};
use crate::request::HEAD_MAX;
use crate::state::{ServerState, peer};
use crate::table::Misbehaviour;
use crate::{Access, BadRequest, FileRequest};

/// How long a connection may stay without a request.
const IDLE: Duration = Duration::from_secs(75);

/// How long a peer may take nothing of an answer: one that was killed takes nothing ever.
const STUCK: Duration = Duration::from_secs(600);

/// What is no longer is sent with its head, in one piece.
const SHORT: u64 = 32 * 1024;

/// How much the kernel is asked to send at once; others have their turn in between.
const PIECE: u64 = 1 << 20;

/// How much is read at once of a request.
const READ: usize = 4096;

/// At a rate, how often something is sent.
const TICKS: u64 = 20;

/// What is to become of a connection.
enum Next {
    Another,
    Close,
    Reset,
}

/// Serves a connection until its end.
pub(crate) async fn serve(mut stream: TcpStream, shared: &ServerState) {
    // Answers are sent whole; there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        let request = match timeout(IDLE, next_request(&mut stream, &mut bytes)).await {
            Ok(Ok(Some(request))) => request,
            // It has ended, or is of no use.
            Err(_) | Ok(Ok(None) | Err(Broken::Io)) => return,
            Ok(Err(Broken::Request(error))) => {
                let _ = refuse(&mut stream, error).await;
                return;
            }
        };
        match respond(&mut stream, &request, shared).await {
            Next::Another if request.keep_alive && !request.has_body => {}
            Next::Another | Next::Close => return,
            Next::Reset => {
                // What is closed without lingering is reset (socket(7)).
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                return;
            }
        }
    }
}

/// Why there is no next request.
enum Broken {
    /// The connection has ended in some other way.
    Io,
    Request(BadRequest),
}

/// The next request; none at the end. What follows it stays in `bytes`.
async fn next_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<FileRequest>, Broken> {
    loop {
        if let Some((request, length)) = FileRequest::parse(bytes).map_err(Broken::Request)? {
            bytes.drain(..length);
            return Ok(Some(request));
        }
        if bytes.len() > HEAD_MAX {
            return Err(Broken::Request(BadRequest::TooLong));
        }
        bytes.reserve(READ);
        if stream.read_buf(bytes).await.map_err(|_| Broken::Io)? == 0 {
            return Ok(None);
        }
    }
}

/// Says what is wrong, to whom may not be listening.
async fn refuse(stream: &mut TcpStream, error: BadRequest) -> io::Result<()> {
    let status = match error {
        BadRequest::Syntax => 400,
        BadRequest::TooLong => 431,
    };
    let nothing = FileRequest {
        method: String::new(),
        target: String::new(),
        keep_alive: false,
        range: None,
        if_range: None,
        if_none_match: None,
        has_body: false,
    };
    let answer = Answer::text(&nothing, status, &error.to_string());
    stream.write_all(&answer.head).await?;
    if let Body::Text(text) = &answer.body {
        stream.write_all(text).await?;
    }
    stream.shutdown().await
}

async fn respond(stream: &mut TcpStream, request: &FileRequest, shared: &ServerState) -> Next {
    let (began, since) = (Timestamp::now(), Instant::now());
    let (answer, misbehaviour) = decide(request, shared);
    let is_reset = misbehaviour.reset;
    let is_told = answer.is_told || !misbehaviour.faults.is_empty();
    let mut access = Access {
        began,
        took: Duration::ZERO,
        peer: peer(stream),
        method: request.method.clone(),
        file: answer.file.clone().unwrap_or_else(|| request.target.clone()),
        status: (!is_reset).then_some(answer.status),
        first: answer.body.first(),
        announced: if is_reset { 0 } else { answer.body.length() },
        sent: 0,
        faults: misbehaviour.faults.clone(),
        trouble: answer.trouble.clone(),
    };
    let ended = if is_reset { Ok(()) } else { send(stream, answer, &misbehaviour, &mut access.sent).await };
    access.took = since.elapsed();
    let is_whole = access.is_whole();
    if ended.is_ok() && !is_reset && !(is_whole && request.keep_alive) {
        // Before anything else, so that it is this end that remembers the connection for a while (TIME-WAIT,
        // RFC 9293, section 3.6.1): a client that made many would run out of ports.
        let _ = stream.shutdown().await;
    }
    if is_told {
        shared.tell(access).await;
    }
    match ended {
        Ok(()) if is_reset => Next::Reset,
        Ok(()) if is_whole => Next::Another,
        Ok(()) | Err(_) => Next::Close,
    }
}

fn decide(request: &FileRequest, shared: &ServerState) -> (Answer, Misbehaviour) {
    let (found, misbehaviour) = {
        let table = shared.table();
        if request.target.is_empty() && answer::is_get_or_head(request) {
            return (Answer::plain(request, 200, answer::list(&table)), table.misbehaviour("", None));
        }
        if let Some(document) = table.document(&request.target)
            && answer::is_get_or_head(request)
        {
            let misbehaviour = table.misbehaviour(&request.target, None);
            return (Answer::of_document(request, &document), misbehaviour);
        }
        answer::look_up(&table, request)
    };
    (Answer::of(request, found, &misbehaviour), misbehaviour)
}

/// Sends an answer, or as much of it as is to be sent.
async fn send(
    stream: &mut TcpStream,
    answer: Answer,
    misbehaviour: &Misbehaviour,
    sent: &mut u64,
) -> io::Result<()> {
    let Answer { head, body, .. } = answer;
    let wanted = body.length().min(misbehaviour.cut_after.unwrap_or(u64::MAX));
    match body {
        Body::Text(text) => {
            let text = &text[..usize::try_from(wanted).unwrap_or(usize::MAX).min(text.len())];
            stream.write_all(&[head.as_slice(), text].concat()).await?;
            *sent = text.len() as u64;
            Ok(())
        }
        Body::Part { file, first, .. } => {
            let part = Part { file: Arc::new(file), first, wanted };
            let is_plain = misbehaviour.bytes_per_second.is_none() && !misbehaviour.corrupt;
            if is_plain && wanted <= SHORT {
                return part.send_short(stream, head, sent).await;
            }
            send_with_more(stream, &head).await?;
            match misbehaviour.bytes_per_second {
                Some(rate) => part.send_slowly(stream, rate, misbehaviour.corrupt, sent).await,
                None if misbehaviour.corrupt => {
                    while *sent < wanted {
                        part.send_corrupt(stream, PIECE, sent).await?;
                    }
                    Ok(())
                }
                None => {
                    while *sent < wanted {
                        part.send_by_kernel(stream, PIECE, sent).await?;
                    }
                    Ok(())
                }
            }
        }
    }
}

/// Sends what is followed by more at once (MSG_MORE, send(2)): the kernel waits for that.
async fn send_with_more(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let attempt = || Ok(rustix::net::send(stream.as_fd(), bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?);
        let taken = stream.async_io(Interest::WRITABLE, attempt).await?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// A part of a file that is to be sent.
struct Part {
    file: Arc<File>,
    first: u64,
    wanted: u64,
}

impl Part {
    async fn send_short(&self, stream: &mut TcpStream, mut head: Vec<u8>, sent: &mut u64) -> io::Result<()> {
        let length = head.len();
        head.resize(length + usize::try_from(self.wanted).unwrap_or(0), 0);
        self.file.read_exact_at(&mut head[length..], self.first)?;
        timeout(STUCK, stream.write_all(&head)).await??;
        *sent = self.wanted;
        Ok(())
    }

    /// Has the kernel send up to so many bytes more.
    async fn send_by_kernel(&self, stream: &TcpStream, most: u64, sent: &mut u64) -> io::Result<()> {
        let length = usize::try_from((self.wanted - *sent).min(most)).unwrap_or(usize::MAX);
        let mut offset = self.first + *sent;
        let attempt =
            || Ok(rustix::fs::sendfile(stream.as_fd(), self.file.as_fd(), Some(&mut offset), length)?);
        match timeout(STUCK, stream.async_io(Interest::WRITABLE, attempt)).await?? {
            // It became shorter.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            more => {
                *sent += more as u64;
                Ok(())
            }
        }
    }

    /// Sends up to so many bytes more, some of them wrong.
    async fn send_corrupt(&self, stream: &mut TcpStream, most: u64, sent: &mut u64) -> io::Result<()> {
        const EACH: usize = 4096;
        let most = most.min(64 * 1024);
        let mut piece = vec![0; usize::try_from((self.wanted - *sent).min(most)).unwrap_or(0)];
        let offset = self.first + *sent;
        self.file.read_exact_at(&mut piece, offset)?;
        // Whatever part is asked for, the same bytes are wrong.
        let first_wrong = offset.next_multiple_of(EACH as u64) - offset;
        let wrong = piece.iter_mut().skip(usize::try_from(first_wrong).unwrap_or(usize::MAX)).step_by(EACH);
        wrong.for_each(|byte| *byte = !*byte);
        timeout(STUCK, stream.write_all(&piece)).await??;
        *sent += piece.len() as u64;
        Ok(())
    }

    async fn send_slowly(
        &self,
        stream: &mut TcpStream,
        rate: u64,
        corrupt: bool,
        sent: &mut u64,
    ) -> io::Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(1000 / TICKS));
        let began = Instant::now();
        while *sent < self.wanted {
            ticks.tick().await;
            // What is due by now, so that no rounding adds up.
            let due = u128::from(rate) * began.elapsed().as_micros() / 1_000_000;
            let due = u64::try_from(due).unwrap_or(u64::MAX).min(self.wanted);
            while *sent < due {
                let most = due - *sent;
                if corrupt {
                    self.send_corrupt(stream, most, sent).await?;
                } else {
                    self.send_by_kernel(stream, most, sent).await?;
                }
            }
        }
        Ok(())
    }
}
