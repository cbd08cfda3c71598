//! The Journal Export Format (<https://systemd.io/JOURNAL_EXPORT_FORMATS>), read as it arrives.
//!
//! This format, unlike the JSON one, carries long and binary fields whole. It comes from a guest
//! over a connection that is cut at any byte, and the guest may be what is under test: so memory is
//! bounded whatever it sends, a field that is too long is cut and marked, and after anything
//! malformed reading goes on at the next entry.

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

/// How much of one field is kept unless told otherwise, in bytes.
pub const FIELD_MAX: usize = 64 * 1024;

/// The largest field that a journal can hold (`DATA_SIZE_MAX` in systemd's `journal-importer.h`).
const DATA_SIZE_MAX: u64 = 768 * 1024 * 1024;

/// The longest field name (`journal_field_valid` in systemd's `journal-file.c`); `__` ones are shorter.
const NAME_MAX: usize = 64;

/// How much of one entry is kept with all its fields, in fields' lengths of [`ExportParser`].
const ENTRY_FIELDS: usize = 16;

/// How many fields of an entry are kept (`ENTRY_FIELD_COUNT_MAX` in systemd).
const FIELD_COUNT_MAX: usize = 1024;

/// Something that is not in the format. Reading goes on at the next entry.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ExportError {
    /// A line that neither has `=` nor is a field's name.
    #[error("the journal has a line that is no field: {shown:?}")]
    NotAField {
        /// Its beginning.
        shown: String,
    },
    /// A binary field of impossible length.
    #[error(
        "the journal's field {name} claims {length} bytes, more than the {DATA_SIZE_MAX} that a journal can hold"
    )]
    TooLong {
        /// The field.
        name: String,
        /// What it claims.
        length: u64,
    },
    /// A binary field that does not end with a newline.
    #[error("the journal's field {name} does not end where its length says")]
    NotEnded {
        /// The field.
        name: String,
    },
    /// An entry without `__CURSOR`.
    #[error("a journal entry has no cursor")]
    NoCursor,
    /// The stream ended in the midst of an entry.
    #[error("the journal ended in the midst of an entry")]
    CutShort,
}

/// A field of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value, or the beginning of it.
    pub value: Bytes,
    /// The value was longer.
    pub cut: bool,
}

/// A journal entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalEntry {
    /// `__CURSOR`: its position in the journal.
    pub cursor: String,
    /// `__REALTIME_TIMESTAMP`, in microseconds since 1970 by the guest's clock.
    pub realtime_usec: Option<u64>,
    /// `__MONOTONIC_TIMESTAMP`, in microseconds since the guest's kernel began.
    pub monotonic: Option<u64>,
    /// `_BOOT_ID`.
    pub boot_id: Option<String>,
    /// `PRIORITY`, 0 to 7.
    pub priority: Option<u8>,
    /// `SYSLOG_IDENTIFIER`.
    pub identifier: Option<String>,
    /// `_SYSTEMD_UNIT`.
    pub unit: Option<String>,
    /// `_PID`.
    pub pid: Option<u32>,
    /// `MESSAGE`, where it is text; invalid UTF-8 is replaced.
    pub message: String,
    /// `MESSAGE` was cut or was not all text.
    pub cut: bool,
    /// All fields in their order, if they were asked for.
    pub fields: Vec<Field>,
}

impl JournalEntry {
    /// The time of the entry by the guest's clock.
    pub fn realtime(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(i64::try_from(self.realtime_usec?).ok()?).ok()
    }

    fn set(&mut self, name: &str, value: &[u8], cut: bool) {
        match name {
            "__CURSOR" => self.cursor = text(value),
            "__REALTIME_TIMESTAMP" => self.realtime_usec = number(value),
            "__MONOTONIC_TIMESTAMP" => self.monotonic = number(value),
            "_BOOT_ID" => self.boot_id = Some(text(value)),
            "PRIORITY" => self.priority = number(value).filter(|&priority| priority <= 7),
            "SYSLOG_IDENTIFIER" => self.identifier = Some(text(value)),
            "_SYSTEMD_UNIT" => self.unit = Some(text(value)),
            "_PID" => self.pid = number(value),
            "MESSAGE" => {
                self.message = text(value);
                self.cut = cut || std::str::from_utf8(value).is_err();
            }
            _ => {}
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Where in the format the stream stands.
#[derive(Debug)]
enum State {
    /// In a line, whose kept part is in the buffer; `cut` when it was longer than that.
    Line { cut: bool },
    /// After the name of a binary field: the 8 bytes of its length, little-endian.
    Length { name: String },
    /// In a binary field with so many bytes to come, then a newline.
    Data { name: String, remaining: u64, cut: bool },
    /// After something malformed, up to a blank line.
    Skip { line_is_empty: bool },
}

/// The parser: bytes in, entries out.
#[derive(Debug)]
pub struct ExportParser {
    state: State,
    buffer: Vec<u8>,
    entry: JournalEntry,
    /// The current entry has got a field.
    begun: bool,
    field_max: usize,
    all_fields: bool,
    /// Bytes of the fields kept in the current entry.
    kept: usize,
}

impl ExportParser {
    /// A parser at the start of a stream. It keeps `field_max` bytes of each field; `all_fields`
    /// asks for all, not only for those with a place of their own in [`JournalEntry`].
    pub fn new(field_max: usize, all_fields: bool) -> Self {
        Self {
            state: State::Line { cut: false },
            buffer: Vec::new(),
            entry: JournalEntry::default(),
            begun: false,
            field_max: field_max.max(NAME_MAX),
            all_fields,
            kept: 0,
        }
    }

    /// Takes the next bytes of the stream and appends what they complete to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Result<JournalEntry, ExportError>>) {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Line { .. } => self.line(bytes, out),
                State::Length { .. } => self.length(bytes, out),
                State::Data { .. } => self.data(bytes, out),
                State::Skip { line_is_empty } => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    if byte == b'\n' && *line_is_empty {
                        self.state = State::Line { cut: false };
                    } else {
                        *line_is_empty = byte == b'\n';
                    }
                    rest
                }
            };
        }
    }

    /// Ends the stream. The end of an entry that is not followed by a blank line is not its end:
    /// more fields may have been lost.
    ///
    /// # Errors
    ///
    /// When it ends in the midst of an entry.
    pub fn finish(self) -> Result<(), ExportError> {
        let clean = matches!(self.state, State::Line { .. } | State::Skip { .. });
        if clean && !self.begun && self.buffer.is_empty() { Ok(()) } else { Err(ExportError::CutShort) }
    }

    fn line<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<Result<JournalEntry, ExportError>>) -> &'a [u8] {
        let (part, rest, ended) = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(at) => (&bytes[..at], &bytes[at + 1..], true),
            None => (bytes, &bytes[..0], false),
        };
        let room = (self.field_max + NAME_MAX + 1).saturating_sub(self.buffer.len());
        self.buffer.extend_from_slice(&part[..part.len().min(room)]);
        let State::Line { cut } = &mut self.state else { return rest };
        *cut |= part.len() > room;
        if !ended {
            return rest;
        }
        let cut = std::mem::take(cut);
        let line = std::mem::take(&mut self.buffer);
        if line.is_empty() {
            self.end_entry(out);
        } else if let Some(at) = line.iter().position(|&byte| byte == b'=')
            && let Some(name) = field_name(&line[..at])
        {
            let value = &line[at + 1..];
            let kept = &value[..value.len().min(self.field_max)];
            self.field(&name, kept, cut || kept.len() < value.len());
        } else if let Some(name) = field_name(&line) {
            self.state = State::Length { name };
        } else {
            let shown = String::from_utf8_lossy(&line[..line.len().min(NAME_MAX)]).into_owned();
            self.fail(ExportError::NotAField { shown }, true, out);
        }
        rest
    }

    fn length<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<Result<JournalEntry, ExportError>>) -> &'a [u8] {
        const LENGTH: usize = size_of::<u64>();
        let (part, rest) = bytes.split_at(bytes.len().min(LENGTH - self.buffer.len()));
        self.buffer.extend_from_slice(part);
        let Ok(length) = <[u8; LENGTH]>::try_from(self.buffer.as_slice()) else { return rest };
        self.buffer.clear();
        let State::Length { name } = &mut self.state else { return rest };
        let name = std::mem::take(name);
        let length = u64::from_le_bytes(length);
        if length > DATA_SIZE_MAX {
            self.fail(ExportError::TooLong { name, length }, false, out);
        } else {
            self.state = State::Data { name, remaining: length, cut: false };
        }
        rest
    }

    fn data<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<Result<JournalEntry, ExportError>>) -> &'a [u8] {
        let State::Data { name, remaining, cut } = &mut self.state else { return bytes };
        if *remaining == 0 {
            let (name, cut) = (std::mem::take(name), *cut);
            if bytes[0] != b'\n' {
                self.buffer.clear();
                self.fail(ExportError::NotEnded { name }, false, out);
                return bytes;
            }
            let value = std::mem::take(&mut self.buffer);
            self.field(&name, &value, cut);
            self.state = State::Line { cut: false };
            return &bytes[1..];
        }
        let (part, rest) = bytes.split_at(bytes.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX)));
        *remaining -= part.len() as u64;
        let room = self.field_max - self.buffer.len();
        self.buffer.extend_from_slice(&part[..part.len().min(room)]);
        *cut |= part.len() > room;
        rest
    }

    fn field(&mut self, name: &str, value: &[u8], cut: bool) {
        self.begun = true;
        self.entry.set(name, value, cut);
        if !self.all_fields {
            return;
        }
        let full = self.entry.fields.len() >= FIELD_COUNT_MAX
            || self.kept + value.len() > self.field_max.saturating_mul(ENTRY_FIELDS);
        if full {
            self.entry.cut = true;
        } else {
            self.kept += value.len();
            self.entry.fields.push(Field {
                name: name.to_owned(),
                value: Bytes::copy_from_slice(value),
                cut,
            });
        }
    }

    fn end_entry(&mut self, out: &mut Vec<Result<JournalEntry, ExportError>>) {
        let entry = std::mem::take(&mut self.entry);
        self.kept = 0;
        // Blank lines between entries are allowed to be several.
        if std::mem::take(&mut self.begun) {
            out.push(if entry.cursor.is_empty() { Err(ExportError::NoCursor) } else { Ok(entry) });
        }
    }

    fn fail(
        &mut self,
        error: ExportError,
        line_is_empty: bool,
        out: &mut Vec<Result<JournalEntry, ExportError>>,
    ) {
        self.entry = JournalEntry::default();
        self.begun = false;
        self.kept = 0;
        self.state = State::Skip { line_is_empty };
        out.push(Err(error));
    }
}

/// `bytes` as a field's name, if it can be one.
fn field_name(bytes: &[u8]) -> Option<String> {
    let valid = (1..=NAME_MAX).contains(&bytes.len())
        && bytes.iter().all(|&byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    valid.then(|| text(bytes))
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
