//! Tests of the whole log.

use super::*;
use crate::journal::{HttpError, LostReason};

struct Fixture {
    dir: tempfile::TempDir,
    vm: VmName,
}

impl Fixture {
    fn new() -> (Self, TestLog) {
        let fixture =
            Self { dir: tempfile::tempdir().expect("directory"), vm: "alpha".parse().expect("name") };
        let log = TestLog::open(Utf8Path::from_path(fixture.dir.path()).expect("UTF-8")).expect("open");
        (fixture, log)
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.dir.path().join(name)).expect("file")
    }
}

/// The texts of the merged log, without times.
fn texts(human: &str) -> Vec<&str> {
    human.lines().filter_map(|line| line.split_once("| ").map(|(_, text)| text)).collect()
}

#[test]
fn consoles_journals_and_the_driver_are_one_log() {
    let (fixture, mut log) = Fixture::new();
    let mut live = log.subscribe();
    assert_eq!(log.mark_boot(&fixture.vm), 1);
    log.console_bytes(&fixture.vm, b"\x1b[1mbooting\x1b[0m\r\nlogin: ");
    let entry = JournalEntry { message: "started".to_owned(), ..JournalEntry::default() };
    log.journal_event(&fixture.vm, FollowEvent::Entry(Box::new(entry)));
    log.journal_event(&fixture.vm, FollowEvent::Lost { reason: LostReason::Removed });
    log.test(Some("a_test"), "hello");
    assert_eq!(log.finish().len(), 0);

    assert_eq!(live.try_recv().expect("a record").message, "--- boot 1 ---");
    let human = fixture.read("test.log");
    let texts = texts(&human);
    assert_eq!(texts[..3], ["--- boot 1 ---", "booting", "started"]);
    assert!(texts[3].starts_with("the journal removed entries") && texts[4].starts_with("hint: "));
    assert_eq!(texts[5..], ["a_test: hello", "login: "]);
    assert_eq!(fixture.read("vms/alpha/console.raw"), "\x1b[1mbooting\x1b[0m\r\nlogin: ");
    assert!(fixture.read("vms/alpha/journal.log").contains("started"));
}

#[test]
fn the_journal_of_a_boot_that_came_late_is_put_in_its_place_in_the_end() {
    let (fixture, mut log) = Fixture::new();
    let early = Timestamp::now() - SignedDuration::from_secs(3600);
    log.driver(None, "now");
    log.record(Record::new(early, Some(fixture.vm.clone()), Stream::Console, "early"));
    log.merger = Merger::new(Duration::ZERO);
    log.record(Record::new(Timestamp::now(), None, Stream::Driver, "later"));
    log.record(Record::new(early, Some(fixture.vm.clone()), Stream::Journal, "early too"));
    assert_eq!(log.finish().len(), 0);
    assert_eq!(texts(&fixture.read("test.log"))[..2], ["early", "early too"]);
}

#[test]
fn a_reset_before_anything_was_said_begins_no_new_boot() {
    let (fixture, mut log) = Fixture::new();
    assert_eq!(log.mark_boot(&fixture.vm), 1);
    assert_eq!(log.mark_reset(&fixture.vm), None);
    log.console_bytes(&fixture.vm, b"Linux version 6.1\r\n");
    assert_eq!(log.mark_reset(&fixture.vm), Some(2));
    assert_eq!(log.mark_reset(&fixture.vm), None);
}

#[test]
fn trouble_of_the_kernel_is_a_sign() {
    let (fixture, mut log) = Fixture::new();
    let line = "[ 1.0] Kernel panic - not syncing: x";
    let signs = log.console_bytes(&fixture.vm, format!("fine\n{line}\n").as_bytes());
    assert_eq!(signs, [ConsoleSign::Trouble { badness: Badness::Panic, line: line.to_owned() }]);
}

#[test]
fn a_guest_that_suspends_itself_says_so_on_its_console() {
    let (fixture, mut log) = Fixture::new();
    let said = "[ 8.2] PM: suspend entry (s2idle)\n[ 8.3] Filesystems sync: 0.019 seconds\n[ 9.1] PM: suspend exit\n";
    assert_eq!(log.console_bytes(&fixture.vm, said.as_bytes()), [ConsoleSign::Suspended, ConsoleSign::Woken]);
}

#[test]
fn an_unfinished_line_is_due_after_its_quiet_time_and_nothing_is_due_in_the_end() {
    let (fixture, mut log) = Fixture::new();
    assert_eq!(log.deadline(), None);
    log.console_bytes(&fixture.vm, b"login: ");
    assert!(log.deadline().is_some());
    log.tick();
    assert_eq!(texts(&fixture.read("test.log")), [""; 0], "its quiet time is not over");
    for seconds in [1, 2, 3] {
        let (now, time) = (Instant::now(), Timestamp::now());
        log.tick_at(now + Duration::from_secs(seconds), time + Duration::from_secs(seconds));
    }
    assert_eq!(log.deadline(), None);
    assert_eq!(texts(&fixture.read("test.log")), ["login: "], "written without the log being ended");
    assert!(fixture.read("vms/alpha/console.log").ends_with(" login: \n"));
}

#[test]
fn an_error_is_told_with_its_cause_and_its_advice() {
    let (fixture, mut log) = Fixture::new();
    let source = std::io::Error::other("no such address");
    let error = HttpError::Bind { address: "fd00::1".parse().expect("address"), source };
    log.journal_event(&fixture.vm, FollowEvent::Disconnected { reason: Some(error) });
    log.finish();
    let human = fixture.read("test.log");
    let texts = texts(&human);
    assert!(texts[0].ends_with(": no such address") && texts[1].starts_with("hint: "), "{texts:?}");
}
