//! Ways in which an input can arrive.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// The input whole, in single bytes, and in pieces of several sizes.
pub fn in_pieces(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    const SIZES: [usize; 5] = [1, 7, 2, 19, 3];
    let mut uneven = Vec::new();
    let mut rest = bytes;
    for &size in SIZES.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.min(rest.len()));
        uneven.push(piece);
        rest = after;
    }
    [vec![bytes], bytes.chunks(1).collect(), uneven]
}

/// Asserts that a reader makes the same of an input however it arrives, and gives what it made.
pub fn same_in_pieces<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(&[&[u8]]) -> T) -> T {
    let [whole, single, uneven] = in_pieces(bytes);
    let made = read(&whole);
    assert_eq!(made, read(&single), "byte by byte, something else is read");
    assert_eq!(made, read(&uneven), "in pieces, something else is read");
    made
}

/// A stream that gives one piece at a time.
#[derive(Debug)]
pub struct Pieces<'a> {
    pieces: std::slice::Iter<'a, &'a [u8]>,
    current: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// A stream of these pieces.
    pub fn new(pieces: &'a [&'a [u8]]) -> Self {
        Self { pieces: pieces.iter(), current: &[] }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.current.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.current = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let (now, later) = self.current.split_at(self.current.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.current = later;
        Poll::Ready(Ok(()))
    }
}

/// Drives a future to its end.
///
/// # Panics
///
/// When it takes many times longer than anything here should: a hang.
pub fn drive<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    let limit = std::time::Duration::from_secs(60);
    let ended = RUNTIME.with(|runtime| runtime.block_on(async { tokio::time::timeout(limit, future).await }));
    ended.expect("it ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_input_in_its_order() {
        let bytes: Vec<u8> = (0..=255).collect();
        for pieces in in_pieces(&bytes) {
            assert_eq!(pieces.concat(), bytes);
        }
        assert!(in_pieces(b"").iter().all(|pieces| pieces.concat().is_empty()));
    }

    #[test]
    #[should_panic(expected = "byte by byte")]
    fn a_reader_that_cares_for_pieces_is_noticed() {
        same_in_pieces(b"abc", |pieces| pieces.len());
    }
}
