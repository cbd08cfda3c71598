use std::io::{Cursor, Write as _};

use camino::Utf8Path;
use jiff::Timestamp;

use super::*;
use crate::record::Stream;

const HEADER: &str = "{\"steading_log\":1,\"begun\":\"2026-01-02T03:04:05Z\"}\n";

fn line(message: &str) -> String {
    let record = Record::new(Timestamp::UNIX_EPOCH, None, Stream::Driver, message);
    serde_json::to_string(&record).expect("json") + "\n"
}

fn messages<R: BufRead>(reader: &mut LogReader<R>) -> Vec<String> {
    std::iter::from_fn(|| reader.next_record().expect("a log")).map(|record| record.message).collect()
}

#[test]
fn a_line_that_is_no_record_is_passed_over_and_counted() {
    let mut log = HEADER.as_bytes().to_vec();
    log.extend(line("one").bytes());
    log.extend(b"\n{\"time\":\"20\n\xff\xfe\n");
    log.extend(line("two").bytes());
    log.extend(b"{\"time\":\"20");
    let mut reader = LogReader::new(log.as_slice());
    assert_eq!(messages(&mut reader), ["one", "two"]);
    assert_eq!(reader.skipped(), Skipped { broken: 3, too_long: 0, torn: true });
    assert_eq!(
        reader.skipped().to_string(),
        "3 lines of the log are no records and were passed over; the log ends in the midst of a line"
    );
    assert_eq!(LogReader::new(HEADER.as_bytes()).skipped().told(), None);
}

#[test]
fn a_line_without_end_is_not_kept_in_memory() {
    let log = format!("{HEADER}{}{}", "x".repeat(1000), "\n") + &line("after");
    let mut reader = LogReader::with_limit(BufReader::with_capacity(16, log.as_bytes()), 200);
    assert_eq!(messages(&mut reader), ["after"]);
    assert_eq!(reader.skipped(), Skipped { broken: 0, too_long: 1, torn: false });
    assert!(reader.line.capacity() <= 400, "{}", reader.line.capacity());
}

/// As a file that is written while it is read: no end is the last.
#[test]
fn a_line_that_is_not_written_to_its_end_is_read_once_it_is() {
    let dir = tempfile::tempdir().expect("directory");
    let path = Utf8Path::from_path(dir.path()).expect("UTF-8").join(LOG_FILE);
    let mut file = fs_err::File::create(&path).expect("created");
    let mut reader = LogReader::open(&path).expect("opened");
    assert!(reader.next_record().expect("nothing wrong with an empty log").is_none());
    let first = line("first");
    let (begin, end) = first.split_at(20);
    write!(file, "{HEADER}{begin}").expect("written");
    assert!(reader.next_record().expect("a log").is_none());
    assert!(reader.skipped().torn && !reader.skipped().has_lines());
    write!(file, "{end}").expect("written");
    assert_eq!(reader.next_record().expect("a log").expect("a record").message, "first");
    assert_eq!(reader.skipped(), Skipped::default());
    assert_eq!(reader.line(), first.trim_end().as_bytes());
}

#[test]
fn a_record_is_found_again_where_its_line_begins() {
    let log = HEADER.to_owned() + &line("one") + "broken\n" + &line("two") + &line("three");
    let mut reader = LogReader::new(BufReader::with_capacity(16, Cursor::new(log)));
    let mut begins = Vec::new();
    while reader.next_record().expect("a log").is_some() {
        begins.push(reader.line_begin());
    }
    let mut found = |begin| reader.record_at(begin).expect("a log").expect("a record").message;
    let again: Vec<_> = begins.iter().rev().map(|&begin| found(begin)).collect();
    assert_eq!(again, ["three", "two", "one"]);
    assert_eq!(found(begins[0]), "one");
}

#[test]
fn a_log_of_a_later_version_is_refused_with_its_version() {
    let later = "{\"steading_log\":7,\"begun\":\"2026-01-02T03:04:05Z\"}\n";
    let error = LogReader::new(later.as_bytes()).next_record().expect_err("refused");
    assert!(matches!(error, ReadLogError::Version { found: 7 }));
    let error = LogReader::new(line("no header").as_bytes()).next_record().expect_err("refused");
    assert!(matches!(error, ReadLogError::NoHeader { shown } if shown.starts_with("{\"time\"")));
}

/// Opening a pipe that nobody writes to would wait for ever, as would reading a device.
#[test]
fn a_pipe_in_place_of_a_log_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("directory");
    let path = Utf8Path::from_path(dir.path()).expect("UTF-8").join(LOG_FILE);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path.as_std_path(), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    for path in [path.as_path(), "/dev/zero".into(), "/".into()] {
        let error = LogReader::open(path).expect_err("refused");
        assert!(steading_plan::chain(&error).ends_with("it is no regular file"), "{error:?}");
    }
}
