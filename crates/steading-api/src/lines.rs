//! Streams of JSON values, one a line, as they arrive: in pieces that end anywhere.

use bytes::BytesMut;
use serde::de::DeserializeOwned;

/// From the bytes of a stream to its lines.
#[derive(Debug, Default)]
pub struct LineDecoder {
    buffer: BytesMut,
    /// How much of the buffer has no line end.
    searched: usize,
}

impl LineDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next value, once its line has come to its end. An unfinished last line is none: who said
    /// it was killed.
    ///
    /// # Errors
    ///
    /// When a line is no such value; the next call gives the line after it.
    pub fn next_value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, serde_json::Error> {
        let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.buffer.split_to(self.searched + end + 1);
        self.searched = 0;
        serde_json::from_slice(&line).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_with_the_end_of_its_line_however_its_bytes_arrive() {
        let mut lines = LineDecoder::new();
        let mut values = Vec::new();
        for byte in b"[1]\n {\"a\":\n\"torn" {
            lines.push(&[*byte]);
            values.push(lines.next_value::<serde_json::Value>().map_err(|error| error.is_eof()));
        }
        let some: Vec<_> = values.iter().enumerate().filter(|(_, value)| **value != Ok(None)).collect();
        assert_eq!(some, [(3, &Ok(Some(serde_json::json!([1])))), (10, &Err(true))]);
    }
}
