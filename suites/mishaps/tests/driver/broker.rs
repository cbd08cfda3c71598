//! Groups of unrelated processes that wait for each other.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use steading_testing::process::{ends_within, marked, signal, signal_to, wait_for_text};

use crate::support::{HOST, Mishap, PASSED, Ran, random, seed};

/// Groups, how many of them may run at once, and how many are killed.
const GROUPS: usize = 20;
const LIMIT: usize = 4;
const KILLED: usize = 7;

/// Within this time they are killed.
const KILLS: u64 = 8_000;

/// How long to look at one of them.
const MOMENT: Duration = Duration::from_millis(2);

/// Far more than a group of one VM without an operating system takes.
const LONG: Duration = Duration::from_secs(120);

struct Group {
    run: Mishap,
    child: Child,
    mark: String,
    /// When one of its processes is to be killed.
    victim_at: Option<Duration>,
    has_ended: bool,
}

fn start(number: usize, cpus: usize, dir: &Path, meeting: &Path) -> Group {
    let mut run = Mishap::new("shares").image(&vec![0; 1 << 20]).sharing(dir);
    run.command.args(["--group", &format!("g{number}")]);
    let mark = format!("MISHAP_RUN={}", run.path("").display()).trim_end_matches('/').to_owned();
    run.command.env("STEADING_BROKER_CPUS", cpus.to_string());
    run.command.env("MISHAP_MEETING", meeting);
    let child = run.command.spawn().expect("the program starts");
    Group { run, child, mark, victim_at: None, has_ended: false }
}

/// When the guests of a run were on, from the first event of its VM to the last one in its log. The run holds its
/// lease all the while. Returns `None` for a run that was killed before it started a VM.
fn guests_were_on(ran: &Ran) -> Option<(String, String)> {
    let log = std::fs::read_to_string(ran.path("out/log.jsonl")).ok()?;
    let times = log.lines().filter_map(|line| {
        // The log of a run that was killed may end within a line.
        let record: Value = serde_json::from_str(line).ok()?;
        record.get("event")?;
        Some(sortable(record["time"].as_str()?))
    });
    let times: Vec<String> = times.collect();
    Some((times.iter().min()?.clone(), times.iter().max()?.clone()))
}

/// A time in UTC (RFC 3339) with all digits of its fraction, so that texts have the order of times.
fn sortable(time: &str) -> String {
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}")
}

/// The largest number of spans that have a moment in common.
fn most_at_once(spans: &[(String, String)]) -> usize {
    let at = |moment: &String| spans.iter().filter(|(first, last)| first <= moment && moment <= last).count();
    spans.iter().map(|(first, _)| at(first)).max().unwrap_or(0)
}

/// Lets functions stay for a while, and returns how many were there at the same time at most.
fn receive(meeting: UnixListener, mut random_state: u64) -> Arc<AtomicUsize> {
    let most = Arc::new(AtomicUsize::new(0));
    let (there, highest) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
    std::thread::spawn(move || {
        for guest in meeting.incoming() {
            let mut guest = guest.expect("a function");
            let stays = Duration::from_millis(200 + random(&mut random_state) % 1500);
            let (there, highest) = (Arc::clone(&there), Arc::clone(&highest));
            std::thread::spawn(move || {
                highest.fetch_max(there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // It says nothing: that ends when the time is over, or with the function.
                guest.set_read_timeout(Some(stays)).expect("a time-out");
                let _ = guest.read(&mut [0]);
                there.fetch_sub(1, Ordering::SeqCst);
                let _ = guest.write_all(&[1]);
            });
        }
    });
    most
}

#[test]
fn twenty_groups_never_exceed_the_limit_and_those_that_are_killed_hold_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = tempfile::tempdir().expect("a directory");
    let meeting = place.path().join("meeting");
    let mut random_state = seed();
    let functions = receive(UnixListener::bind(&meeting).expect("a socket"), random(&mut random_state));
    let mut groups: Vec<Group> =
        (0..GROUPS).map(|number| start(number, LIMIT, dir.path(), &meeting)).collect();
    let began = Instant::now();
    let mut victims: Vec<usize> = (0..GROUPS).collect();
    for _ in 0..KILLED {
        let one = usize::try_from(random(&mut random_state)).expect("64 bits") % victims.len();
        let delay = Duration::from_millis(random(&mut random_state) % KILLS);
        groups[victims.swap_remove(one)].victim_at = Some(delay);
    }
    let mut killed = Vec::new();
    while groups.iter().any(|group| !group.has_ended) {
        for (number, group) in groups.iter_mut().enumerate().filter(|(_, group)| !group.has_ended) {
            group.has_ended = ends_within(&group.child, MOMENT);
            if group.victim_at.is_some_and(|at| began.elapsed() >= at) && !group.has_ended {
                // Any of its processes: the program, the owner, the router daemon, a guest, a function.
                let pids = marked(&group.mark, 0);
                if !pids.is_empty() {
                    let one = usize::try_from(random(&mut random_state)).expect("64 bits") % pids.len();
                    signal_to(pids[one], Signal::KILL);
                    group.victim_at = None;
                    killed.push(number);
                }
            }
        }
    }
    assert!(!killed.is_empty(), "no group was killed");
    let mut spans = Vec::new();
    let mut reserved: Vec<(u64, String)> = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        let ran = group.run.wait(group.child);
        let were_on = guests_were_on(&ran);
        let has_span = were_on.is_some();
        spans.extend(were_on);
        if killed.contains(&number) {
            continue;
        }
        ran.assert_code(PASSED);
        let results = std::fs::read(ran.path("out/results.json")).expect("results");
        let results: Value = serde_json::from_slice(&results).expect("JSON");
        let ticket = results["reserved"]["ticket"].as_u64().expect("a number");
        let since = results["reserved"]["since"].as_str().expect("a time");
        assert!(has_span, "the log of g{number} has no event of its VM");
        reserved.push((ticket, sortable(since)));
    }
    let functions_at_once = functions.load(Ordering::SeqCst);
    assert!((2..=LIMIT).contains(&functions_at_once), "{functions_at_once} functions ran at once");
    let guests_at_once = most_at_once(&spans);
    assert!((2..=LIMIT).contains(&guests_at_once), "{guests_at_once} groups had guests at once: {spans:?}");
    reserved.sort();
    assert!(reserved.is_sorted_by_key(|(_, since)| since.clone()), "not in order: {reserved:?}");
    // Nothing is held any more, so one that needs all that there is passes.
    let mut last = start(GROUPS, 1, dir.path(), &meeting);
    last.has_ended = ends_within(&last.child, LONG);
    last.run.wait(last.child).assert_code(PASSED);
    let left = std::fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!(left, 0, "tickets are left");
}

#[test]
fn spans_that_share_a_moment_are_counted() {
    let span = |first: &str, last: &str| (sortable(first), sortable(last));
    let day = "2026-12-01T10:00:0";
    let times = |seconds: [&str; 2]| span(&format!("{day}{}Z", seconds[0]), &format!("{day}{}Z", seconds[1]));
    assert_eq!(most_at_once(&[]), 0);
    assert_eq!(most_at_once(&[["1", "1.5"], ["1.51", "3"]].map(times)), 1);
    assert_eq!(most_at_once(&[["1", "4"], ["2", "2.5"], ["2.45", "3"], ["3.1", "5"]].map(times)), 3);
}

/// A group that has all of the machine, and one that waits for it.
fn one_waits() -> (Group, Group, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let alone = |number| {
        let mut run = Mishap::new("shares").image(&vec![0; 1 << 20]).sharing(dir.path());
        run.command.env("STEADING_BROKER_CPUS", "1").args(["--keepalive", "--group", &format!("g{number}")]);
        let child = run.command.spawn().expect("the program starts");
        Group { run, child, mark: String::new(), victim_at: None, has_ended: false }
    };
    let first = alone(1);
    wait_for_text(&first.child, &first.run.path("stderr"), "the testnet is up", LONG);
    let second = alone(2);
    wait_for_text(&second.child, &second.run.path("stderr"), "place 1 of 1", LONG);
    (first, second, dir)
}

#[test]
fn one_that_waits_says_for_what_and_ends_at_the_first_interrupt() {
    for kind in [Signal::INT, Signal::TERM] {
        let (first, second, _dir) = one_waits();
        signal(&second.child, kind);
        let ran = second.run.wait(second.child);
        ran.assert_code(i32::from(steading::exit_code::INTERRUPTED));
        let said = "waiting for 1 CPU and 160 MiB: place 1 of 1; 1 CPU and 160 MiB of 1 CPU and ";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        assert!(ran.stderr.contains(" are reserved: g1 (1 CPU and 160 MiB, since "), "{}", ran.stderr);
        signal(&first.child, Signal::INT);
        first.run.wait(first.child).assert_code(PASSED);
    }
}

#[test]
fn one_that_waits_goes_on_when_the_holder_is_killed() {
    let (first, second, _dir) = one_waits();
    signal(&first.child, Signal::KILL);
    wait_for_text(&second.child, &second.run.path("stderr"), "the testnet is up", LONG);
    first.run.wait(first.child);
    signal(&second.child, Signal::INT);
    second.run.wait(second.child).assert_code(PASSED);
}

#[test]
fn more_memory_than_groups_may_have_is_refused_with_the_sum_before_anything_waits() {
    let (first, second, dir) = one_waits();
    let mut third = Mishap::new("shares").image(&vec![0; 1 << 20]).sharing(dir.path());
    third.command.env("STEADING_BROKER_MEMORY_MIB", "100");
    let ran = third.run();
    ran.assert_code(HOST);
    let said = "needs 160 MiB of memory, but groups can reserve only 100 MiB: a 64 + 96 for each of 1 QEMU";
    ran.assert_told(&[said], "--broker-memory-mib");
    for group in [first, second] {
        signal(&group.child, Signal::INT);
        group.run.wait(group.child);
    }
}

#[test]
fn a_directory_that_was_named_and_cannot_be_used_is_an_error() {
    let ran = Mishap::new("shares").image(&vec![0; 1 << 20]).sharing(Path::new("/proc/tickets")).run();
    ran.assert_code(HOST);
    ran.assert_told(&["cannot use /proc/tickets for the tickets"], "STEADING_BROKER_DIR");
}
