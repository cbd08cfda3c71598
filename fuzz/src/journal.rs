//! The journal export format, as a guest sends it.

use std::io::Write as _;

use steading_logs::journal::{ExportError, ExportParser, FIELD_MAX, JournalEntry};

use crate::Target;
use crate::input::same_in_pieces;

/// The target.
pub const TARGET: Target = Target {
    name: "journal",
    check,
    seeds: &[
        b"__CURSOR=s=1;i=1;b=2\n__REALTIME_TIMESTAMP=1700000000000000\n__MONOTONIC_TIMESTAMP=5\n\
          _BOOT_ID=0123456789abcdef0123456789abcdef\nPRIORITY=6\nSYSLOG_IDENTIFIER=sshd\n\
          _SYSTEMD_UNIT=ssh.service\n_PID=12\nMESSAGE=Server listening on :: port 22.\n\n",
        b"__CURSOR=a\nMESSAGE\n\x08\0\0\0\0\0\0\0one\ntwo\n\nUNIT=x\n\n__CURSOR=b\nMESSAGE=next\n\n",
        b"__CURSOR=a\nno field\nMESSAGE=lost\n\n__CURSOR=b\nMESSAGE=kept\n\n",
        b"__CURSOR=a\nMESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff\n\n__CURSOR=b\n\n",
        // Fields that are longer than a short reader keeps, and one that is just as long.
        b"__CURSOR=a\nMESSAGE\n\x50\0\0\0\0\0\0\0\
          0123456789012345678901234567890123456789\n123456789012345678901234567890123456789\n\
          UNIT\n\x40\0\0\0\0\0\0\x000123456789012345678901234567890123456789012345678901234567890123\n\
          PRIORITY=0000000000000000000000000000000000000000000000000000000000000000000000000006\n\n",
        b"MESSAGE=no cursor\n\n\n\n__CURSOR=a\nMESSAGE\n\x01\0\0\0\0\0\0\0xx\n\n",
    ],
    words: &[
        "__CURSOR=",
        "__REALTIME_TIMESTAMP=",
        "__MONOTONIC_TIMESTAMP=",
        "_BOOT_ID=",
        "PRIORITY=",
        "SYSLOG_IDENTIFIER=",
        "_SYSTEMD_UNIT=",
        "_PID=",
        "MESSAGE=",
        "MESSAGE\n",
        "\n\n",
        "MESSAGE\n\u{41}\0\0\0\0\0\0\x0001234567890123456789012345678901234567890123456789012345678901234\n",
        "X\n\u{3}\0\0\0\0\0\0\0a\nb\n",
        "\u{1}\0\0\0\0\0\0\0",
        "\0\0\0\0\0\0\0\0",
        "\0\0\0\u{40}\0\0\0\0",
    ],
};

/// A parser keeps at least as much of a field, so that a name fits.
const SHORT_FIELD: usize = 64;

/// As the parser documents: so many fields' lengths of one entry, and so many fields.
const ENTRY_FIELDS: usize = 16;
const FIELD_COUNT_MAX: usize = 1024;

type Read = (Vec<Result<JournalEntry, ExportError>>, Result<(), ExportError>);

/// Reads the bytes as a journal.
pub fn check(bytes: &[u8]) {
    for field_max in [SHORT_FIELD, FIELD_MAX] {
        let (entries, _) = same_in_pieces(bytes, |pieces| read(pieces, field_max));
        for entry in entries.into_iter().flatten() {
            is_bounded(&entry, field_max);
            is_the_same_again(&entry, field_max);
            // The time may be any number.
            let _ = entry.realtime();
        }
    }
}

fn read(pieces: &[&[u8]], field_max: usize) -> Read {
    let mut parser = ExportParser::new(field_max, true);
    let mut out = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut out);
    }
    (out, parser.finish())
}

fn is_bounded(entry: &JournalEntry, field_max: usize) {
    let kept: usize = entry.fields.iter().map(|field| field.value.len()).sum();
    assert!(kept <= ENTRY_FIELDS * field_max, "{kept} bytes are kept");
    assert!(entry.fields.len() <= FIELD_COUNT_MAX, "{} fields are kept", entry.fields.len());
    assert!(entry.fields.iter().all(|field| field.value.len() <= field_max), "a field is too long");
    // A byte that is no text becomes a character of three.
    assert!(entry.message.len() <= 3 * field_max, "a message has {} bytes", entry.message.len());
    assert!(!entry.cursor.is_empty(), "an entry has no cursor");
}

/// Writes the entry as systemd would, and reads that.
fn is_the_same_again(entry: &JournalEntry, field_max: usize) {
    let kept: usize = entry.fields.iter().map(|field| field.value.len()).sum();
    let is_whole = entry.fields.len() < FIELD_COUNT_MAX && kept < (ENTRY_FIELDS - 1) * field_max;
    if !is_whole || entry.fields.iter().any(|field| field.cut) {
        return;
    }
    let mut written = Vec::new();
    for field in &entry.fields {
        written.extend_from_slice(field.name.as_bytes());
        if field.value.contains(&b'\n') {
            written.push(b'\n');
            written.extend_from_slice(&(field.value.len() as u64).to_le_bytes());
        } else {
            written.push(b'=');
        }
        written.write_all(&field.value).expect("memory takes it");
        written.push(b'\n');
    }
    written.push(b'\n');
    let (again, end) = read(&[&written], field_max);
    assert_eq!((again.as_slice(), end), ([Ok(entry.clone())].as_slice(), Ok(())));
}
