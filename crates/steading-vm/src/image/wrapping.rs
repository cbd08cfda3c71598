//! Decoding of compressed images, one member after the other.
//!
//! A compressed file may hold several members (gzip), frames (zstd) or streams (xz), and zeros behind the last one.
//! Decoders that go on by themselves take any other byte behind a member for the beginning of another one, and report
//! a damaged or cut member. Here each member is decoded by itself, so bytes that belong to none are named as such; and
//! an error of the decoder can be told from an error of what reads the decoded bytes, such as a tar.

use std::error::Error;
use std::io::{self, BufRead, Cursor, Read};

use thiserror::Error;

use super::Format;
use super::format::{begins, begins_cut};

/// The largest window of zstd on 64-bit machines (`ZSTD_WINDOWLOG_MAX`): `zstd --ultra --long=31`.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// How much memory a decoder of xz or LZMA may take, in KiB: 2 GiB, as that of zstd. `xz -9` needs 65 MiB.
const LZMA_KIB_MAX: u32 = 2 << 20;

/// As many bytes as the longest signature of a member has.
const SIGNATURE: usize = 13;

/// What is wrong with compressed data.
#[derive(Debug, Error)]
pub(super) enum WrappingError {
    /// A member ends too early.
    #[error("the data ends in the middle")]
    Cut,
    /// Bytes behind the last member.
    #[error("other bytes follow it")]
    Trailing,
    /// The format has a feature that is unknown here.
    #[error(transparent)]
    Unsupported(io::Error),
    /// A member cannot be decoded.
    #[error(transparent)]
    Damaged(io::Error),
}

impl WrappingError {
    /// The error of this kind that caused another one, if one did.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        let mut next: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
        while let Some(cause) = next {
            if let Some(found) = cause.downcast_ref::<Self>() {
                return Some(found);
            }
            // An io::Error shows the source of what is in it, and not what is in it.
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = inner.map(|inner| inner as _).or_else(|| cause.source());
        }
        None
    }

    fn from_decoder(error: io::Error) -> io::Error {
        if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let kind = error.kind();
        let found = match kind {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            // A dictionary that is larger than anybody makes them, too.
            io::ErrorKind::Unsupported | io::ErrorKind::OutOfMemory => Self::Unsupported(error),
            _ => Self::Damaged(error),
        };
        io::Error::new(kind, found)
    }
}

/// The decoded bytes of all members.
pub(super) struct Unwrapped<R: BufRead> {
    format: Format,
    state: State<R>,
}

enum State<R: BufRead> {
    /// Before a member: the first, or another one.
    Before(Pushed<R>, bool),
    In(Member<R>),
    /// Behind the last member, or after an error.
    Ended,
}

enum Member<R: BufRead> {
    Gzip(Box<flate2::bufread::GzDecoder<Pushed<R>>>),
    Zstd(zstd::Decoder<'static, Pushed<R>>),
    Xz(Box<lzma_rust2::XzReader<Pushed<R>>>),
    Lzma(Box<lzma_rust2::LzmaReader<Pushed<R>>>),
}

impl<R: BufRead> Unwrapped<R> {
    /// Decodes data of this format, which is a compressed one.
    pub(super) fn new(format: Format, from: R) -> Self {
        Self { format, state: State::Before(Pushed::new(from), true) }
    }

    /// Begins the next member; none at the end.
    fn next(&self, mut from: Pushed<R>, is_first: bool) -> io::Result<Option<Member<R>>> {
        if !is_first && !from.is_at_member(self.format)? {
            return Ok(None);
        }
        let begun = match self.format {
            Format::Gzip => Ok(Member::Gzip(Box::new(flate2::bufread::GzDecoder::new(from)))),
            Format::Zstd => zstd::Decoder::with_buffer(from).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Member::Zstd(decoder.single_frame()))
            }),
            Format::Xz => {
                Ok(Member::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(from, false, LZMA_KIB_MAX))))
            }
            Format::Lzma => lzma_rust2::LzmaReader::new_mem_limit(from, LZMA_KIB_MAX, None)
                .map(|decoder| Member::Lzma(Box::new(decoder))),
            Format::Raw | Format::Qcow2 => unreachable!("{} is no compressed format", self.format),
        };
        begun.map(Some).map_err(WrappingError::from_decoder)
    }
}

impl<R: BufRead> Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Lzma(decoder) => decoder.read(buffer),
        };
        read.map_err(WrappingError::from_decoder)
    }

    /// What follows it.
    fn rest(self) -> Pushed<R> {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Lzma(decoder) => {
                let (rest, unread) = decoder.into_parts();
                rest.push(unread)
            }
        }
    }
}

impl<R: BufRead> Read for Unwrapped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            // After an error there is nothing more.
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Before(from, is_first) => match self.next(from, is_first)? {
                    Some(member) => self.state = State::In(member),
                    None => return Ok(0),
                },
                State::In(mut member) => match member.read(buffer)? {
                    0 => self.state = State::Before(member.rest(), false),
                    count => {
                        self.state = State::In(member);
                        return Ok(count);
                    }
                },
                State::Ended => return Ok(0),
            }
        }
    }
}

/// Decodes compressed data whose format is told by its beginning, up to so many bytes, reading pieces of this size; none
/// if it is not compressed. For the search for inputs that break decoders.
#[doc(hidden)]
pub fn decode_compressed(bytes: &[u8], most: u64, piece: usize) -> Option<io::Result<Vec<u8>>> {
    let wrapped = [Format::Zstd, Format::Gzip, Format::Xz, Format::Lzma];
    let format = wrapped.into_iter().find(|format| begins(*format, bytes))?;
    let mut decoded = Vec::new();
    let from = io::BufReader::with_capacity(piece.max(1), bytes);
    let read = Unwrapped::new(format, from).take(most).read_to_end(&mut decoded);
    Some(read.map(|_| decoded))
}

/// A reader in front of which bytes were put back.
struct Pushed<R> {
    front: Cursor<Vec<u8>>,
    rest: R,
}

impl<R> Pushed<R> {
    fn new(rest: R) -> Self {
        Self { front: Cursor::default(), rest }
    }

    fn push(self, mut bytes: Vec<u8>) -> Self {
        let at = usize::try_from(self.front.position()).unwrap_or(usize::MAX);
        bytes.extend_from_slice(self.front.get_ref().get(at..).unwrap_or_default());
        Self { front: Cursor::new(bytes), rest: self.rest }
    }
}

impl<R: BufRead> Pushed<R> {
    /// Whether another member follows. Zeros are padding.
    fn is_at_member(&mut self, format: Format) -> io::Result<bool> {
        loop {
            let buffer = self.fill_buf()?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            match (buffer.is_empty(), zeros == buffer.len()) {
                (true, _) => return Ok(false),
                (false, true) => self.consume(zeros),
                (false, false) => {
                    self.consume(zeros);
                    break;
                }
            }
        }
        let mut start = Vec::new();
        self.by_ref().take(SIGNATURE as u64).read_to_end(&mut start)?;
        let (is_member, is_cut) = (begins(format, &start), begins_cut(format, &start));
        let unread = std::mem::take(&mut self.front);
        let at = usize::try_from(unread.position()).unwrap_or(usize::MAX);
        start.extend_from_slice(unread.get_ref().get(at..).unwrap_or_default());
        self.front = Cursor::new(start);
        match (is_member, is_cut) {
            (true, _) => Ok(true),
            (false, true) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, WrappingError::Cut)),
            (false, false) => Err(io::Error::new(io::ErrorKind::InvalidData, WrappingError::Trailing)),
        }
    }
}

impl<R: BufRead> Read for Pushed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.front.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

impl<R: BufRead> BufRead for Pushed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.front.fill_buf()?.is_empty() { self.rest.fill_buf() } else { self.front.fill_buf() }
    }

    fn consume(&mut self, count: usize) {
        if self.front.get_ref().len() as u64 > self.front.position() {
            self.front.consume(count);
        } else {
            self.rest.consume(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn packed(format: Format, data: &[u8]) -> Vec<u8> {
        match format {
            Format::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Format::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(0);
                let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            _ => {
                let options = lzma_rust2::LzmaOptions::with_preset(0);
                let mut writer = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
        }
    }

    fn unpacked(format: Format, bytes: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let from = io::BufReader::with_capacity(piece, bytes);
        let mut out = Vec::new();
        match Unwrapped::new(format, from).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(match WrappingError::of(&error) {
                Some(found) => format!("{found:?}").split('(').next().unwrap().to_owned(),
                None => error.to_string(),
            }),
        }
    }

    const ALL: [Format; 4] = [Format::Gzip, Format::Zstd, Format::Xz, Format::Lzma];

    #[test]
    fn the_cause_of_an_error_is_found_below_the_errors_of_other_readers() {
        let inner = io::Error::new(io::ErrorKind::UnexpectedEof, WrappingError::Cut);
        let outer = io::Error::other(io::Error::other(inner));
        assert!(matches!(WrappingError::of(&outer), Some(WrappingError::Cut)));
        assert!(WrappingError::of(&io::Error::other("x")).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn members_are_joined_zeros_are_padding_and_other_bytes_are_named(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            zeros in 0_usize..20, tail in prop::collection::vec(any::<u8>(), 0..20), piece in 1_usize..64,
        ) {
            for format in ALL {
                let mut bytes: Vec<u8> = parts.iter().flat_map(|part| packed(format, part)).collect();
                let whole: Vec<u8> = parts.concat();
                let end = bytes.len();
                bytes.resize(end + zeros, 0);
                prop_assert_eq!(unpacked(format, &bytes, piece), Ok(whole.clone()), "{}", format);
                bytes.push(b'!');
                bytes.extend(&tail);
                prop_assert_eq!(unpacked(format, &bytes, piece), Err("Trailing".to_owned()), "{}", format);
            }
        }

        #[test]
        fn a_cut_member_is_a_cut_one(data in prop::collection::vec(any::<u8>(), 100..300), cut in 1_usize..40) {
            for format in ALL {
                let bytes = packed(format, &data);
                let cut = unpacked(format, &bytes[..bytes.len() - cut.min(bytes.len() - 14)], 16);
                prop_assert_eq!(cut, Err("Cut".to_owned()), "{}", format);
            }
        }
    }
}
