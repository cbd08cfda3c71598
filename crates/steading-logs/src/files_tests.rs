//! Tests of the log's files.

use camino_tempdir::Dir;

use super::*;
use crate::reader::Skipped;
use crate::record::Stream;

mod camino_tempdir {
    use camino::Utf8Path;

    use crate::reader::{LOG_FILE, LogReader, Skipped};

    pub(crate) struct Dir(tempfile::TempDir);

    impl Dir {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        pub(crate) fn path(&self) -> &Utf8Path {
            Utf8Path::from_path(self.0.path()).expect("UTF-8")
        }

        pub(crate) fn read(&self, name: &str) -> String {
            fs_err::read_to_string(self.path().join(name)).expect("a file")
        }

        /// What the records say, and what of the log is none.
        pub(crate) fn records(&self) -> (Vec<String>, Skipped) {
            let mut reader = LogReader::open(&self.path().join(LOG_FILE)).expect("a log");
            let records = std::iter::from_fn(|| reader.next_record().expect("readable"));
            (records.map(|record| record.message).collect(), reader.skipped())
        }
    }
}

fn vm() -> VmName {
    "alpha".parse().expect("name")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

fn record(second: i64, stream: Stream, message: &str) -> Record {
    Record::new(at(second), Some(vm()), stream, message)
}

#[test]
fn each_file_gets_its_form_of_a_record() {
    let dir = Dir::new();
    let mut files = LogFiles::open(dir.path()).expect("open");
    files.console_raw(&vm(), b"\x1b[1mhi\x1b[0m\r\n");
    files.mark_boot(&vm(), at(0), 2);
    files.console_line(&vm(), at(0), "hi", false);
    files.console_line(&vm(), at(0), "there", true);
    let mut entry = record(1, Stream::Journal, "one\ntwo");
    entry.identifier = Some("unit".to_owned());
    files.journal_line(&vm(), &entry);
    files.merged(&entry);
    files.merged(&Record::new(at(2), None, Stream::Driver, "done"));
    files.flush();
    assert_eq!(dir.read("vms/alpha/console.raw"), "\x1b[1mhi\x1b[0m\r\n");
    assert_eq!(
        dir.read("vms/alpha/console.log"),
        "--- boot 2 --- 2027-01-15 08:00:00 UTC\n08:00:00.000 hi\n08:00:00.000 …there\n"
    );
    assert!(dir.read("vms/alpha/journal.log").ends_with("08:00:01.000 unit: one\n08:00:01.000   two\n"));
    let human = dir.read("test.log");
    let lines: Vec<&str> = human.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "08:00:01.000 alpha      journal| unit: one",
            "08:00:01.000 alpha      journal| …two",
            "08:00:02.000 -           driver| done",
        ]
    );
    let (messages, skipped) = dir.records();
    assert_eq!((messages[0].as_str(), messages.len(), skipped.told()), ("one\ntwo", 2, None));
}

#[test]
fn a_log_is_gone_on_with_and_a_torn_line_is_ended() {
    let dir = Dir::new();
    let mut files = LogFiles::open(dir.path()).expect("open");
    files.console_raw(&vm(), b"abc");
    files.merged(&record(0, Stream::Console, "first"));
    drop(files);
    let path = dir.path().join("log.jsonl");
    let torn = dir.read("log.jsonl") + "{\"time\":\"2027";
    fs_err::write(&path, torn).expect("written");

    let mut files = LogFiles::open(dir.path()).expect("open");
    files.console_raw(&vm(), b"def");
    files.merged(&record(1, Stream::Console, "second"));
    drop(files);
    assert_eq!(dir.read("vms/alpha/console.raw"), "abcdef");
    let (messages, skipped) = dir.records();
    assert_eq!(messages, ["first", "second"]);
    assert_eq!(skipped, Skipped { broken: 1, ..Skipped::default() });
}

/// A disk that is full until told otherwise.
#[derive(Default)]
struct Disk {
    written: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= count;
        self.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_said_once_and_the_file_goes_on_when_there_is_room_again() {
    let mut file = Appended::new("/logs/test.log".into(), Disk { room: 10, ..Disk::default() }, true);
    let mut problems = Vec::new();
    file.append(b"first\n", &mut problems);
    file.append(b"second\n", &mut problems);
    file.flush(&mut problems);
    for _ in 0..5 {
        file.append(b"lost\n", &mut problems);
        file.flush(&mut problems);
    }
    let [LogError::Full { path, directory, .. }] = problems.as_slice() else {
        panic!("one, not {problems:?}")
    };
    assert_eq!((path.as_str(), directory.as_str()), ("/logs/test.log", "/logs"));

    file.writer.get_mut().room = 1000;
    file.append(b"after\n", &mut problems);
    file.flush(&mut problems);
    let written = String::from_utf8(file.writer.get_ref().written.clone()).expect("text");
    assert_eq!(written, "first\nsecond\n--- 5 lines could not be written here ---\nafter\n");
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_vm_whose_directory_cannot_be_made_costs_its_files_only() {
    let dir = Dir::new();
    fs_err::write(dir.path().join("vms"), "in the way").expect("written");
    let mut files = LogFiles::open(dir.path()).expect("open");
    files.console_raw(&vm(), b"x");
    files.console_raw(&vm(), b"y");
    assert!(matches!(files.take_problems().as_slice(), [LogError::Open { .. }]));
    files.merged(&record(0, Stream::Console, "still here"));
    files.flush();
    assert!(dir.read("test.log").contains("still here"));
}

#[test]
fn late_records_find_their_place_when_the_log_is_sorted() {
    let dir = Dir::new();
    let mut files = LogFiles::open(dir.path()).expect("open");
    for (second, message) in [(5, "b"), (86_400, "d"), (1, "a"), (6, "c")] {
        files.merged(&record(second, Stream::Console, message));
    }
    drop(files);
    let log = dir.read(LOG_FILE).replacen("\n{", "\nno record\n{", 2);
    fs_err::write(dir.path().join(LOG_FILE), log).expect("write");
    fs_err::write(dir.path().join(".test.log.sorted"), "left by somebody who was killed").expect("write");
    sort_human_log(dir.path()).expect("sorted");
    let human = dir.read("test.log");
    let ends: Vec<&str> = human.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(ends, ["---", "a", "b", "c", "---", "d", "---"]);
    assert!(human.ends_with("--- 2 lines of the log are no records and were passed over ---\n"), "{human}");
    assert!(human.starts_with("--- log of 2027-01-15"));
    assert!(!dir.path().join(".test.log.sorted").exists());
}
