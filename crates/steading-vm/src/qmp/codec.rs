//! Messages on a stream: one JSON value a line, of bounded size.
//!
//! Both QEMU and its guest agent speak so. The agent is inside the guest, which may be what is under
//! test, so the bound matters.

use bytes::{Buf, BytesMut};
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What the guest agent puts before an answer that the reader may have missed the beginning of
/// (`guest-sync-delimited` in `qga/qapi-schema.json`). It occurs in no UTF-8 text.
pub(crate) const SENTINEL: u8 = 0xff;

/// Why no message could be read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// It is longer than any that is expected.
    #[error("a message has more than {limit} bytes")]
    TooLong {
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// It is no JSON.
    #[error("a message is no JSON: {shown}")]
    Malformed {
        /// Its beginning.
        shown: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The stream cannot be read.
    #[error("cannot read")]
    Read(#[source] std::io::Error),
}

/// Reads messages. A read that is dropped loses nothing.
#[derive(Debug)]
pub struct MessageReader<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer has no line end.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// A reader of this stream, which takes messages of so many bytes at most.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, limit }
    }

    /// The next message; none at the end of the stream. An unfinished last one is the end, too.
    ///
    /// # Errors
    ///
    /// When a message is too long, is no JSON, or cannot be read.
    pub async fn next(&mut self) -> Result<Option<Value>, CodecError> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            let length = end.map_or(self.buffer.len(), |at| self.searched + at);
            if length > self.limit {
                return Err(CodecError::TooLong { limit: self.limit });
            }
            if end.is_some() {
                let line = self.buffer.split_to(length + 1);
                self.searched = 0;
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                return serde_json::from_slice(line).map(Some).map_err(|source| CodecError::Malformed {
                    shown: super::error::beginning(&String::from_utf8_lossy(line)),
                    source,
                });
            }
            self.searched = length;
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Passes over everything up to and with the next byte 0xff, which a guest agent puts before a new
    /// answer; false at the end of the stream.
    ///
    /// # Errors
    ///
    /// When the stream cannot be read.
    pub async fn skip_to_sentinel(&mut self) -> Result<bool, CodecError> {
        self.searched = 0;
        loop {
            if let Some(at) = self.buffer.iter().position(|&byte| byte == SENTINEL) {
                self.buffer.advance(at + 1);
                return Ok(true);
            }
            self.buffer.clear();
            if self.fill().await? == 0 {
                return Ok(false);
            }
        }
    }

    async fn fill(&mut self) -> Result<usize, CodecError> {
        self.reader.read_buf(&mut self.buffer).await.map_err(CodecError::Read)
    }
}

/// A message as it goes over the wire.
pub(crate) fn encode(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read_all(bytes: &[u8]) -> (Vec<Value>, Result<Option<Value>, CodecError>) {
        let mut reader = MessageReader::new(bytes, 64);
        let mut messages = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(message)) => messages.push(message),
                other => return (messages, other),
            }
        }
    }

    #[tokio::test]
    async fn messages_are_separated_by_any_line_end() {
        let (messages, end) = read_all(b"{\"a\":1}\r\n\n{\"b\":2}\n{\"torn").await;
        assert_eq!(messages, [json!({"a": 1}), json!({"b": 2})]);
        assert!(matches!(end, Ok(None)));
    }

    #[tokio::test]
    async fn a_message_in_pieces_is_one_message() {
        let bytes = [&b"{\"a\""[..], b":1}", b"\n{}", b"\n"];
        let (near, mut far) = tokio::io::duplex(3);
        let write = async {
            for piece in bytes {
                tokio::io::AsyncWriteExt::write_all(&mut far, piece).await.expect("write");
            }
            drop(far);
        };
        let mut reader = MessageReader::new(near, 64);
        let read = async {
            let mut messages = Vec::new();
            while let Some(message) = reader.next().await.expect("read") {
                messages.push(message);
            }
            messages
        };
        let ((), messages) = tokio::join!(write, read);
        assert_eq!(messages, [json!({"a": 1}), json!({})]);
    }

    #[tokio::test]
    async fn an_endless_message_is_an_error() {
        let (_, end) = read_all(&[b'x'; 100]).await;
        assert!(matches!(end, Err(CodecError::TooLong { limit: 64 })));
    }

    /// It was taken if its end was read with its beginning.
    #[tokio::test]
    async fn a_message_that_is_too_long_is_an_error_however_it_arrives() {
        let message = format!("[{}0]\n", "0,".repeat(40));
        let (messages, end) = read_all(message.as_bytes()).await;
        assert!(messages.is_empty() && matches!(end, Err(CodecError::TooLong { limit: 64 })));
        let (messages, _) = read_all(format!("[{}0]\n", "0,".repeat(30)).as_bytes()).await;
        assert_eq!(messages.len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_json_is_shown() {
        let (_, end) = read_all(b"(qemu) \n").await;
        assert!(matches!(end, Err(CodecError::Malformed { shown, .. }) if shown == "(qemu)"));
    }

    #[tokio::test]
    async fn everything_before_the_sentinel_is_passed_over() {
        let mut reader = MessageReader::new(&b"stale\n{\"stale\":1}\n{\"tor\xff{\"new\":1}\n"[..], 64);
        assert!(reader.skip_to_sentinel().await.expect("read"));
        assert_eq!(reader.next().await.expect("read"), Some(json!({"new": 1})));
        assert!(!reader.skip_to_sentinel().await.expect("read"));
    }
}
