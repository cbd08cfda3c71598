//! Reading `log.jsonl`: for the report, for rules, for people, and to put the log in order.
//!
//! A log is read while it is written, after its writer was killed, and after its disk was full. So
//! what is wrong with a line must not cost the others, and must not go unsaid: a line that is no
//! record is passed over and counted. One line is in memory at a time, and of that no more than a
//! record can have.

use std::fmt;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use camino::Utf8Path;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{File, OpenOptions};
use rustix::fs::OFlags;

use crate::error::{LogError, ReadLogError};
use crate::record::{LOG_VERSION, LogHeader, Record};

/// The file with every record, in a directory of logs.
pub const LOG_FILE: &str = "log.jsonl";

/// The longest line that is read, in bytes. What is written has less: a journal entry at most three
/// fields of 64 KiB, each byte as six of JSON, and a test's own line what one request may carry.
pub const RECORD_MAX: usize = 4 << 20;

/// How much of a line an error shows, in characters.
const SHOWN: usize = 80;

/// What of a log was passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Lines that are no record: torn by a full disk or by the end of their writer, or not ours.
    pub broken: u64,
    /// Lines of more than [`RECORD_MAX`] bytes.
    pub too_long: u64,
    /// The log ends in the midst of a line: it is being written, or its writer was killed.
    pub torn: bool,
}

impl Skipped {
    /// Whether lines are missing for good. A torn end may yet be written.
    pub fn has_lines(&self) -> bool {
        self.broken > 0 || self.too_long > 0
    }

    /// As a sentence for people; none if nothing was passed over.
    pub fn told(&self) -> Option<String> {
        (*self != Self::default()).then(|| self.to_string())
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64, what: &str| match count {
            0 => None,
            1 => Some(format!("1 line of the log {what} and was passed over")),
            _ => Some(format!("{count} lines of the log {what} and were passed over")),
        };
        let parts = [
            counted(self.broken, if self.broken == 1 { "is no record" } else { "are no records" }),
            counted(self.too_long, if self.too_long == 1 { "is too long" } else { "are too long" }),
            self.torn.then(|| "the log ends in the midst of a line".to_owned()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Reads a log's records in the order in which they were written.
#[derive(Debug)]
pub struct LogReader<R> {
    source: R,
    limit: usize,
    /// The line that is being read, or was read last; as much of it as there is.
    line: Vec<u8>,
    /// It has come to its end.
    whole: bool,
    /// It is longer than the limit, and so not kept.
    overlong: bool,
    /// Where it begins, and where the source stands.
    begin: u64,
    position: u64,
    header: Option<LogHeader>,
    skipped: Skipped,
}

impl LogReader<BufReader<std::fs::File>> {
    /// Opens a log. What is no file may have no end, or no beginning: it is refused without waiting.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is a directory, a device or a pipe.
    pub fn open(path: &Utf8Path) -> Result<Self, LogError> {
        let failed = |source| LogError::Open { path: path.to_owned(), source };
        // Else opening a pipe would wait for somebody who writes to it.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        Ok(Self::new(BufReader::new(file.into_parts().0)))
    }
}

impl<R: BufRead> LogReader<R> {
    /// Reads a log from its beginning.
    pub fn new(source: R) -> Self {
        Self::with_limit(source, RECORD_MAX)
    }

    /// The same, passing over lines of more than so many bytes.
    pub fn with_limit(source: R, limit: usize) -> Self {
        Self {
            source,
            limit,
            line: Vec::new(),
            whole: false,
            overlong: false,
            begin: 0,
            position: 0,
            header: None,
            skipped: Skipped::default(),
        }
    }

    /// The next record; none where the log ends for now. It may be called again once there is more,
    /// and a line whose end was not written yet is then read on.
    ///
    /// # Errors
    ///
    /// When the log has no header, or one of another version, or cannot be read. A log that is still
    /// empty has nothing wrong.
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadLogError> {
        while self.next_line().map_err(ReadLogError::Read)? {
            if self.header.is_none() {
                self.header = Some(self.read_header()?);
            } else if self.overlong {
                self.skipped.too_long += 1;
            } else {
                match serde_json::from_slice(&self.line) {
                    Ok(record) => return Ok(Some(Record::safe(record))),
                    Err(_) => self.skipped.broken += 1,
                }
            }
        }
        Ok(None)
    }

    /// The first line, once it was read.
    pub fn header(&self) -> Option<&LogHeader> {
        self.header.as_ref()
    }

    /// The record that [`Self::next_record`] gave last as it stands in the log, without its line end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Where in the log the last record's line begins, in bytes; see [`Self::record_at`].
    pub fn line_begin(&self) -> u64 {
        self.begin
    }

    /// What is read from.
    pub fn get_ref(&self) -> &R {
        &self.source
    }

    /// What was passed over so far.
    pub fn skipped(&self) -> Skipped {
        let torn = !self.whole && (self.overlong || !self.line.is_empty());
        Skipped { torn, ..self.skipped }
    }

    fn read_header(&self) -> Result<LogHeader, ReadLogError> {
        let no_header = || ReadLogError::NoHeader {
            shown: String::from_utf8_lossy(&self.line).chars().take(SHOWN).collect(),
        };
        let header: LogHeader = serde_json::from_slice(&self.line).map_err(|_| no_header())?;
        match header.steading_log {
            LOG_VERSION => Ok(header),
            found => Err(ReadLogError::Version { found }),
        }
    }

    /// Reads to the end of a line. False where the source ends before; what there is of it is kept.
    fn next_line(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.whole) {
            self.line.clear();
            self.overlong = false;
            self.begin = self.position;
        }
        while !self.whole {
            let available = match self.source.fill_buf() {
                Ok([]) => return Ok(false),
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|&byte| byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.overlong || part.len() > self.limit - self.line.len() {
                self.overlong = true;
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.source.consume(consumed);
            self.position += consumed as u64;
            self.whole = end.is_some();
        }
        Ok(true)
    }
}

impl<R: Seek> LogReader<BufReader<R>> {
    /// The record whose line begins there; see [`Self::line_begin`]. Reading goes on behind it.
    ///
    /// # Errors
    ///
    /// As [`Self::next_record`].
    pub fn record_at(&mut self, begin: u64) -> Result<Option<Record>, ReadLogError>
    where
        R: io::Read,
    {
        // What lies near is in the buffer, mostly.
        match (i64::try_from(begin), i64::try_from(self.position)) {
            (Ok(begin), Ok(position)) => self.source.seek_relative(begin - position),
            _ => self.source.seek(SeekFrom::Start(begin)).map(|_| ()),
        }
        .map_err(ReadLogError::Read)?;
        self.position = begin;
        self.whole = true;
        self.next_record()
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
