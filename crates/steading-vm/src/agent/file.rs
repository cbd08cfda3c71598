//! Copying files to and from the guest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::channel::{GuestAgent, unexpected};
use super::error::AgentError;

/// How much of a file goes in one message, in bytes. The serial port is slow: a larger piece would
/// keep others waiting for their turn.
const PIECE: usize = 128 * 1024;

impl GuestAgent {
    /// Writes what `source` has to the file `path` in the guest, which is made or replaced. Returns
    /// the number of bytes. Each answer of the agent may take `answer_limit`.
    ///
    /// # Errors
    ///
    /// When `source` cannot be read, or the agent cannot write; the file is then incomplete.
    pub async fn copy_to(
        &self,
        source: &mut (impl AsyncRead + Unpin),
        path: &str,
        answer_limit: Duration,
    ) -> Result<u64, AgentError> {
        let handle = self.open_file(path, "w", answer_limit).await?;
        let copied = self.write_all(handle, source, path, answer_limit).await;
        self.close_file(handle, answer_limit, copied).await
    }

    /// Writes what the file `path` in the guest has to `target`. Returns the number of bytes. Each
    /// answer of the agent may take `answer_limit`.
    ///
    /// # Errors
    ///
    /// When the agent cannot read, or `target` cannot be written.
    pub async fn copy_from(
        &self,
        path: &str,
        target: &mut (impl AsyncWrite + Unpin),
        answer_limit: Duration,
    ) -> Result<u64, AgentError> {
        let handle = self.open_file(path, "r", answer_limit).await?;
        let copied = self.read_all(handle, target, path, answer_limit).await;
        self.close_file(handle, answer_limit, copied).await
    }

    async fn open_file(&self, path: &str, mode: &str, limit: Duration) -> Result<i64, AgentError> {
        let command = "guest-file-open";
        let answer = self.execute(command, Some(json!({ "path": path, "mode": mode })), limit).await?;
        answer.as_i64().ok_or_else(|| unexpected(command, &answer))
    }

    /// Closes the file in any case; what went wrong before counts more than what goes wrong now.
    async fn close_file(
        &self,
        handle: i64,
        limit: Duration,
        copied: Result<u64, AgentError>,
    ) -> Result<u64, AgentError> {
        let closed = self.execute("guest-file-close", Some(json!({ "handle": handle })), limit).await;
        let copied = copied?;
        closed.map(|_| copied)
    }

    async fn write_all(
        &self,
        handle: i64,
        source: &mut (impl AsyncRead + Unpin),
        path: &str,
        limit: Duration,
    ) -> Result<u64, AgentError> {
        let command = "guest-file-write";
        let mut piece = vec![0; PIECE];
        let mut copied = 0;
        loop {
            let count = source.read(&mut piece).await.map_err(|source| AgentError::Copy {
                direction: "to",
                path: path.to_owned(),
                source,
            })?;
            if count == 0 {
                return Ok(copied);
            }
            let mut rest = &piece[..count];
            while !rest.is_empty() {
                let arguments = json!({ "handle": handle, "buf-b64": BASE64.encode(rest) });
                let answer = self.execute(command, Some(arguments), limit).await?;
                let written = answer.get("count").and_then(Value::as_u64).filter(|&count| count > 0);
                let written = written.and_then(|count| rest.get(usize::try_from(count).ok()?..));
                rest = written.ok_or_else(|| unexpected(command, &answer))?;
            }
            copied += count as u64;
        }
    }

    async fn read_all(
        &self,
        handle: i64,
        target: &mut (impl AsyncWrite + Unpin),
        path: &str,
        limit: Duration,
    ) -> Result<u64, AgentError> {
        let command = "guest-file-read";
        let failed = |source| AgentError::Copy { direction: "from", path: path.to_owned(), source };
        let mut copied = 0;
        loop {
            let answer =
                self.execute(command, Some(json!({ "handle": handle, "count": PIECE })), limit).await?;
            let data = answer.get("buf-b64").and_then(Value::as_str);
            let data =
                data.and_then(|data| BASE64.decode(data).ok()).ok_or_else(|| unexpected(command, &answer))?;
            target.write_all(&data).await.map_err(failed)?;
            copied += data.len() as u64;
            if data.is_empty() || answer.get("eof").and_then(Value::as_bool) == Some(true) {
                target.flush().await.map_err(failed)?;
                return Ok(copied);
            }
        }
    }
}
