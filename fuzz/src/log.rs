//! `log.jsonl`, which is read after its writer was killed or its disk was full.

use std::io::{BufReader, Cursor};

use steading_logs::{LogReader, Record, Skipped};

use crate::Target;
use crate::input::in_pieces;

/// The target.
pub const TARGET: Target = Target {
    name: "log",
    check,
    seeds: &[
        b"{\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n\
          {\"time\":\"2026-01-02T03:04:05.678Z\",\"vm\":\"alpha\",\"stream\":\"console\",\"message\":\"hello\"}\n\
          {\"time\":\"2026-01-02T03:04:06Z\",\"vm\":\"n1\",\"stream\":\"driver\",\"boot\":1,\
          \"event\":{\"on\":{\"boot\":1}},\"message\":\"it is on, boot 1\"}\n{\"time\":\"20",
        b"{\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n\n\xff\n\
          {\"time\":\"1969-12-31T23:59:59.999999999Z\",\"stream\":\"journal\",\"guest_time\":\"2026-01-02T03:04:05Z\",\
          \"unit\":\"a\",\"identifier\":\"b\",\"pid\":1,\"priority\":3,\"message\":\"x\\ny\",\"cont\":true,\"cut\":true}\n",
        b"{\"steading_log\":2,\"begun\":\"2026-01-02T03:04:05Z\"}\n",
    ],
    words: &[
        "{\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n",
        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"stream\":\"test\",\"message\":\"",
        "-009999-01-01T00:00:00Z",
        "\"vm\":\"n1\",",
        "\"event\":{\"off\":{\"reason\":\"x\"}},",
        "\"event\":\"paused\",",
        "\"priority\":255,",
        "\"}\n",
        "\n",
    ],
};

/// Few enough for lines of a few words to be too long.
const SHORT_LIMIT: usize = 128;

type Read = (Vec<Record>, Skipped, Option<String>);

/// Reads the bytes as a log.
pub fn check(bytes: &[u8]) {
    for limit in [SHORT_LIMIT, steading_logs::RECORD_MAX] {
        let mut reader = LogReader::with_limit(bytes, limit);
        let (records, skipped, error) = rest(&mut reader);
        for capacity in [1, 7] {
            let small = BufReader::with_capacity(capacity, bytes);
            let again = rest(&mut LogReader::with_limit(small, limit));
            assert_eq!((&records, skipped, &error), (&again.0, again.1, &again.2), "through a small buffer");
        }
        if error.is_none() {
            assert_eq!((records.clone(), skipped), as_it_grows(bytes, limit), "read while it grows");
            are_found_again(bytes, limit, &records);
            assert_eq!((records.clone(), skipped), by_the_letter(bytes, limit), "not what its lines are");
        }
        for record in &records {
            let written = serde_json::to_string(record).expect("a record can be written");
            assert!(!written.contains('\n'), "a record is one line");
            assert_eq!(&serde_json::from_str::<Record>(&written).expect("and read"), record);
        }
    }
}

fn rest<R: std::io::BufRead>(reader: &mut LogReader<R>) -> Read {
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, reader.skipped(), None),
            Err(error) => return (records, reader.skipped(), Some(error.to_string())),
        }
    }
}

/// What a log is, said without regard for memory.
fn by_the_letter(bytes: &[u8], limit: usize) -> (Vec<Record>, Skipped) {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let end = lines.pop().unwrap_or_default();
    let mut skipped = Skipped { torn: !end.is_empty(), ..Skipped::default() };
    let mut records = Vec::new();
    // The first is the header.
    for line in lines.iter().skip(1) {
        match serde_json::from_slice(line) {
            _ if line.len() > limit => skipped.too_long += 1,
            Ok(record) => records.push(record),
            Err(_) => skipped.broken += 1,
        }
    }
    (records, skipped)
}

/// Read while it is written: the end is met again and again.
fn as_it_grows(bytes: &[u8], limit: usize) -> (Vec<Record>, Skipped) {
    let [_, _, pieces] = in_pieces(bytes);
    let grows = pieces.into_iter().flat_map(|piece| [piece, &[]]).collect::<Vec<_>>();
    let mut reader = LogReader::with_limit(BufReader::new(Grows(grows.into_iter())), limit);
    let mut records = Vec::new();
    let mut ends = 0;
    // Each piece has an end of its own, and two in a row are the last.
    while ends < 2 {
        match reader.next_record().expect("a log that was read before") {
            Some(record) => {
                records.push(record);
                ends = 0;
            }
            None if reader.get_ref().get_ref().0.len() == 0 => ends += 1,
            None => {}
        }
    }
    (records, reader.skipped())
}

struct Grows<'a>(std::vec::IntoIter<&'a [u8]>);

impl std::io::Read for Grows<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.0.next().unwrap_or_default();
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

fn are_found_again(bytes: &[u8], limit: usize, records: &[Record]) {
    let mut reader = LogReader::with_limit(BufReader::with_capacity(64, Cursor::new(bytes)), limit);
    let mut begins = Vec::new();
    while reader.next_record().expect("a log that was read before").is_some() {
        begins.push(reader.line_begin());
    }
    for (begin, record) in begins.into_iter().zip(records).rev() {
        let again = reader.record_at(begin).expect("a log that was read before");
        assert_eq!(again.as_ref(), Some(record));
    }
}
