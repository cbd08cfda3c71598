//! One exchange at a time with the agent, always in step.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::AgentError;
use crate::qmp::QmpErrorClass;
use crate::qmp::codec::{CodecError, MessageReader, SENTINEL, encode};
use crate::qmp::error::beginning;

/// The longest answer taken, in bytes: 16 MiB each of output and errors, in base64.
const MESSAGE_MAX: usize = 48 * 1024 * 1024;

#[derive(Debug)]
struct Channel {
    messages: MessageReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The next message read is the answer to the next question.
    in_step: bool,
    last_id: u64,
}

/// The agent of one guest. Exchanges are short and go one after the other; many may ask.
#[derive(Debug)]
pub struct GuestAgent {
    channel: Mutex<Channel>,
}

impl GuestAgent {
    /// The agent at the other end of `stream`. Nothing is said yet: there may be no agent.
    pub fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let messages = MessageReader::new(reader, MESSAGE_MAX);
        // No number that an earlier driver of the same, frozen guest may have used.
        let last_id = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
        Self { channel: Mutex::new(Channel { messages, writer, in_step: false, last_id }) }
    }

    /// Executes `command` within `limit`, which counts from when it is this call's turn.
    ///
    /// # Errors
    ///
    /// [`AgentError::NoAnswer`] after `limit`; the agent may still carry out the command.
    pub async fn execute(
        &self,
        command: &str,
        arguments: Option<Value>,
        limit: Duration,
    ) -> Result<Value, AgentError> {
        let mut channel = self.channel.lock().await;
        let exchange = channel.exchange(command, arguments.as_ref());
        timeout(limit, exchange)
            .await
            .map_err(|_| AgentError::NoAnswer { command: command.to_owned(), limit })?
    }

    /// Executes `command`, which does not answer when it succeeds. The agent is asked to say
    /// something else after it: an error would come before that.
    ///
    /// A guest that goes down before it says that, did what it was to do.
    pub(super) async fn execute_unanswered(
        &self,
        command: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<(), AgentError> {
        let mut channel = self.channel.lock().await;
        let step = timeout(limit, channel.get_in_step(command));
        step.await.map_err(|_| AgentError::NoAnswer { command: command.to_owned(), limit })??;
        match timeout(limit, channel.say_and_get_in_step(command, arguments)).await {
            Err(_) | Ok(Err(AgentError::Closed { .. })) => Ok(()),
            Ok(other) => other,
        }
    }
}

impl Channel {
    async fn exchange(&mut self, command: &str, arguments: Option<&Value>) -> Result<Value, AgentError> {
        self.get_in_step(command).await?;
        // Until the answer is here: whoever drops this future leaves it behind on the wire.
        self.in_step = false;
        self.send(command, arguments, &[]).await?;
        let answer = self.receive(command).await?;
        self.in_step = true;
        outcome(command, answer)
    }

    /// Makes sure that no answer to an older question is on the wire.
    async fn get_in_step(&mut self, command: &str) -> Result<(), AgentError> {
        if self.in_step {
            return Ok(());
        }
        let id = self.send_sync().await?;
        loop {
            // Old answers, and what a guest's firmware may have said, end before the mark.
            let found = self.messages.skip_to_sentinel().await.map_err(|error| broken(command, error))?;
            if !found {
                return Err(AgentError::Closed { command: command.to_owned() });
            }
            // An older sync, which nobody waited for to the end, has another number.
            if let Ok(answer) = self.receive(command).await?.get("return").ok_or(())
                && answer.as_u64() == Some(id)
            {
                self.in_step = true;
                return Ok(());
            }
        }
    }

    async fn say_and_get_in_step(&mut self, command: &str, arguments: &Value) -> Result<(), AgentError> {
        self.in_step = false;
        self.send(command, Some(arguments), &[]).await?;
        // Without the mark before it, which would take an error for old.
        let id = self.next_id();
        self.send("guest-sync", Some(&json!({ "id": id })), &[]).await?;
        let answer = self.receive(command).await?;
        if answer.get("return").and_then(Value::as_u64) == Some(id) {
            self.in_step = true;
            return Ok(());
        }
        outcome(command, answer).map(drop)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    async fn send_sync(&mut self) -> Result<u64, AgentError> {
        let id = self.next_id();
        // The mark makes the agent forget half a message that it may have got.
        self.send("guest-sync-delimited", Some(&json!({ "id": id })), &[SENTINEL]).await?;
        Ok(id)
    }

    async fn send(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
        before: &[u8],
    ) -> Result<(), AgentError> {
        let mut message = json!({ "execute": command });
        if let Some(arguments) = arguments {
            message["arguments"] = arguments.clone();
        }
        let mut bytes = before.to_vec();
        bytes.extend_from_slice(&encode(&message));
        self.writer.write_all(&bytes).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                AgentError::Closed { command: command.to_owned() }
            }
            _ => AgentError::Broken(error),
        })
    }

    async fn receive(&mut self, command: &str) -> Result<Value, AgentError> {
        let answer = self.messages.next().await.map_err(|error| broken(command, error))?;
        answer.ok_or_else(|| AgentError::Closed { command: command.to_owned() })
    }
}

fn broken(command: &str, error: CodecError) -> AgentError {
    let command = command.to_owned();
    match error {
        CodecError::Read(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            AgentError::Closed { command }
        }
        CodecError::Read(error) => AgentError::Broken(error),
        CodecError::TooLong { limit } => {
            AgentError::Answer { command, shown: format!("more than {limit} bytes") }
        }
        CodecError::Malformed { shown, .. } => AgentError::Answer { command, shown },
    }
}

fn outcome(command: &str, mut answer: Value) -> Result<Value, AgentError> {
    if let Some(value) = answer.get_mut("return") {
        return Ok(value.take());
    }
    let Some(error) = answer.get("error") else {
        return Err(unexpected(command, &answer));
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    Err(AgentError::Command {
        command: command.to_owned(),
        class: QmpErrorClass::from(text("class")),
        description: text("desc").to_owned(),
    })
}

pub(super) fn unexpected(command: &str, answer: &Value) -> AgentError {
    AgentError::Answer { command: command.to_owned(), shown: beginning(&answer.to_string()) }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
