//! The connection to one QEMU.
//!
//! One task owns the socket: it writes commands as they come, gives each answer to its caller,
//! by its id, and passes events on. Handles to it are cheap and can be used by many at once.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::{Buf as _, Bytes};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::codec::{CodecError, MessageReader, encode};
use super::error::{QmpError, QmpErrorClass, beginning};
use super::event::TimedEvent;

/// The longest message taken from QEMU, in bytes. The longest there is, its schema, has a fifth.
const MESSAGE_MAX: usize = 1024 * 1024;

/// How many commands may wait to be taken by the connection.
const COMMANDS_WAITING: usize = 16;

/// The events of a QEMU, in their order, without end until QEMU ends. They are kept until they are
/// taken, since none may be lost and a VM has few.
pub type QmpEvents = mpsc::UnboundedReceiver<TimedEvent>;

/// Takes each event as it comes, before the answer to any later command is given.
type EventSink = Box<dyn FnMut(TimedEvent) + Send>;

/// The version that QEMU gives in its greeting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// 7 of 7.2.22.
    pub major: u32,
    /// 2 of 7.2.22.
    pub minor: u32,
    /// 22 of 7.2.22.
    pub micro: u32,
    /// The distribution's own addition.
    pub package: String,
}

impl std::fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl QemuVersion {
    /// Reads `{"qemu": {"major": …}, "package": …}`, from the greeting or from `query-version`.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        #[derive(Deserialize)]
        struct Info {
            qemu: Triple,
            #[serde(default)]
            package: String,
        }
        #[derive(Deserialize)]
        struct Triple {
            major: u32,
            minor: u32,
            micro: u32,
        }
        let Info { qemu, package } = Info::deserialize(value).ok()?;
        Some(Self {
            major: qemu.major,
            minor: qemu.minor,
            micro: qemu.micro,
            package: package.trim().to_owned(),
        })
    }
}

struct Request {
    command: String,
    arguments: Option<Value>,
    file: Option<OwnedFd>,
    answer: oneshot::Sender<Result<Value, QmpError>>,
}

/// A handle to one QEMU.
#[derive(Debug, Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Request>,
    version: QemuVersion,
}

/// The connection; nothing is answered but while [`QmpDriver::run`] runs.
pub struct QmpDriver {
    messages: MessageReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    requests: mpsc::Receiver<Request>,
    events: EventSink,
}

impl Qmp {
    /// As [`Qmp::connect_to`], with the events in a channel.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect(stream: UnixStream) -> Result<(Self, QmpDriver, QmpEvents), QmpError> {
        let (sender, events) = mpsc::unbounded_channel();
        // An owner that no longer listens wants no events; commands go on.
        let (qmp, driver) = Self::connect_to(stream, move |event| drop(sender.send(event))).await?;
        Ok((qmp, driver, events))
    }

    /// Reads QEMU's greeting and agrees with it on how to speak. The caller runs the driver in a
    /// task of its own, and awaits its end. `events` gets each event as it comes.
    ///
    /// There is no limit of time: QEMU greets once it has built the machine. It ends when QEMU ends.
    ///
    /// # Errors
    ///
    /// When QEMU ends first, or does not speak QMP.
    pub async fn connect_to(
        stream: UnixStream,
        events: impl FnMut(TimedEvent) + Send + 'static,
    ) -> Result<(Self, QmpDriver), QmpError> {
        let (reader, mut writer) = stream.into_split();
        let mut messages = MessageReader::new(reader, MESSAGE_MAX);
        let mut events: EventSink = Box::new(events);

        let greeting = messages.next().await.map_err(closed_at_start)?.ok_or(QmpError::NoGreeting)?;
        let version = greeting.get("QMP").and_then(|qmp| QemuVersion::parse(qmp.get("version")?));
        let version =
            version.ok_or_else(|| QmpError::Greeting { shown: beginning(&greeting.to_string()) })?;

        let command = "qmp_capabilities";
        writer.write_all(&encode(&json!({ "execute": command }))).await.map_err(QmpError::Broken)?;
        loop {
            let message = messages.next().await.map_err(closed_at_start)?.ok_or(QmpError::NoGreeting)?;
            if let Some(event) = TimedEvent::parse(&message) {
                events(event);
                continue;
            }
            outcome(command, message)?;
            break;
        }

        let (requests_sent, requests) = mpsc::channel(COMMANDS_WAITING);
        let driver = QmpDriver { messages, writer, requests, events };
        Ok((Self { requests: requests_sent, version }, driver))
    }

    /// The version of this QEMU.
    pub fn version(&self) -> &QemuVersion {
        &self.version
    }

    /// Executes `command` and returns what QEMU returns.
    ///
    /// There is no limit of time: QEMU answers each command or ends. If the caller gives up, the
    /// command is carried out all the same.
    ///
    /// # Errors
    ///
    /// [`QmpError::Command`] when QEMU says so, [`QmpError::Closed`] when it ended.
    pub async fn execute(&self, command: &str, arguments: Option<Value>) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None).await
    }

    /// Executes `command`, with an open file that goes along (SCM_RIGHTS, unix(7)).
    pub(super) async fn execute_with(
        &self,
        command: &str,
        arguments: Option<Value>,
        file: Option<OwnedFd>,
    ) -> Result<Value, QmpError> {
        let closed = || QmpError::Closed { command: command.to_owned() };
        let (answer, answered) = oneshot::channel();
        let request = Request { command: command.to_owned(), arguments, file, answer };
        self.requests.send(request).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Completes when the connection has ended, and with it, but for a broken QEMU, QEMU itself.
    pub async fn closed(&self) {
        self.requests.closed().await;
    }
}

impl std::fmt::Debug for QmpDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QmpDriver").finish_non_exhaustive()
    }
}

impl QmpDriver {
    /// Drives the connection until QEMU closes it or every handle is gone and every answer came.
    /// When it ends, or is dropped, those that still wait get [`QmpError::Closed`].
    ///
    /// # Errors
    ///
    /// When what QEMU says is not QMP. An orderly end is none, nor is the death of QEMU.
    pub async fn run(self) -> Result<(), QmpError> {
        let Self { mut messages, writer, mut requests, mut events } = self;
        let mut waiting = HashMap::new();
        let mut unsent = VecDeque::new();
        let mut next_id = 0_u64;
        let mut handles = true;
        while handles || !waiting.is_empty() {
            tokio::select! {
                message = messages.next() => match message {
                    Ok(Some(message)) => dispatch(message, &mut waiting, &mut events)?,
                    Ok(None) => return Ok(()),
                    Err(error) => return ended(error),
                },
                request = requests.recv(), if handles => match request {
                    Some(Request { command, arguments, file, answer }) => {
                        next_id += 1;
                        let mut message = json!({ "execute": command, "id": next_id });
                        if let Some(arguments) = arguments {
                            message["arguments"] = arguments;
                        }
                        unsent.push_back(Unsent { bytes: encode(&message).into(), file });
                        waiting.insert(next_id, (command, answer));
                    }
                    None => handles = false,
                },
                // Beside reading, never before it: QEMU stops reading while it cannot write.
                sent = send(&writer, &mut unsent), if !unsent.is_empty() => {
                    if sent.is_err() {
                        // QEMU is gone; its last words are still to be read, up to their end.
                        unsent.clear();
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is still to be sent of a command. Its file goes with the first byte.
struct Unsent {
    bytes: Bytes,
    file: Option<OwnedFd>,
}

/// Sends some of it. When it is dropped, what was sent is no longer there, and nothing else.
async fn send(writer: &OwnedWriteHalf, unsent: &mut VecDeque<Unsent>) -> std::io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    stream.writable().await?;
    while let Some(first) = unsent.front_mut() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        let files = first.file.as_ref().map(|file| [file.as_fd()]);
        if let Some(files) = &files {
            along.push(SendAncillaryMessage::ScmRights(files));
        }
        let parts = [IoSlice::new(&first.bytes)];
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(sendmsg(stream.as_fd(), &parts, &mut along, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Ok(sent) => {
                first.file = None;
                first.bytes.advance(sent);
                if first.bytes.is_empty() {
                    unsent.pop_front();
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

type Waiting = HashMap<u64, (String, oneshot::Sender<Result<Value, QmpError>>)>;

fn dispatch(message: Value, waiting: &mut Waiting, events: &mut EventSink) -> Result<(), QmpError> {
    if let Some(event) = TimedEvent::parse(&message) {
        events(event);
        return Ok(());
    }
    let asked = message.get("id").and_then(Value::as_u64).and_then(|id| waiting.remove(&id));
    let Some((command, answer)) = asked else {
        let description = beginning(&message.to_string());
        return Err(QmpError::NotUnderstood { description });
    };
    // A caller that gave up is no error.
    let _ = answer.send(outcome(&command, message));
    Ok(())
}

fn outcome(command: &str, mut message: Value) -> Result<Value, QmpError> {
    if let Some(value) = message.get_mut("return") {
        return Ok(value.take());
    }
    let Some(error) = message.get("error") else {
        return Err(QmpError::Answer { command: command.to_owned(), shown: beginning(&message.to_string()) });
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    Err(QmpError::Command {
        command: command.to_owned(),
        class: QmpErrorClass::from(text("class")),
        description: text("desc").to_owned(),
    })
}

/// A reset connection is how the death of QEMU looks when something was still unread.
fn ended(error: CodecError) -> Result<(), QmpError> {
    match error {
        CodecError::Read(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        CodecError::Read(error) => Err(QmpError::Broken(error)),
        CodecError::TooLong { limit } => Err(QmpError::TooLong { limit }),
        CodecError::Malformed { shown, source } => Err(QmpError::Malformed { shown, source }),
    }
}

fn closed_at_start(error: CodecError) -> QmpError {
    ended(error).err().unwrap_or(QmpError::NoGreeting)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
