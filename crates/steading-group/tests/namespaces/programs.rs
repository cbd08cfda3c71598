//! Programs inside a group: what is heard of them, and how they end.

use std::time::Duration;

use steading_api::ProcessEvent;
use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Outcome, SOON, event_loop, spec};
use crate::traces::{pidfd, wait_for_end};

pub(crate) const CASES: &[Case] = &[
    ("output_lines_of_both_streams_arrive", output_lines_of_both_streams_arrive),
    ("an_exit_by_signal_is_told", an_exit_by_signal_is_told),
    ("a_program_leaves_children_that_are_ended_and_named", a_program_leaves_children),
    ("no_child_escapes_that_is_about_to_become_another_program", no_child_escapes),
    ("a_program_is_ended_when_asked", a_program_is_ended_when_asked),
    ("a_program_is_ended_when_nobody_listens_any_more", a_program_is_ended_when_nobody_listens),
    ("a_program_that_is_not_there_is_told", a_program_that_is_not_there_is_told),
    (
        "owners_of_a_process_that_had_an_event_loop_see_their_programs_end",
        owners_of_a_process_with_an_event_loop,
    ),
];

fn up() -> Group {
    Group::up("programs", |_| Testnet::new())
}

fn output_lines_of_both_streams_arrive() -> Outcome {
    let group = up();
    let ran = group.run(&["sh", "-c", "echo one; echo two >&2; printf three; exit 3"]);
    let mut lines = ran.lines;
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);
    assert_eq!((ran.status, ran.signal), (Some(3), None));
    assert!(ran.left.is_empty(), "{:?}", ran.left);
    let many = group.run(&["seq", "20000"]);
    assert_eq!(many.lines, (1..=20000).map(|number| number.to_string()).collect::<Vec<_>>());
    group.tear_down();
    Outcome::Passed
}

fn an_exit_by_signal_is_told() -> Outcome {
    let group = up();
    let ran = group.run(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!((ran.status, ran.signal), (None, Some(15)));
    group.tear_down();
    Outcome::Passed
}

fn a_program_leaves_children() -> Outcome {
    let group = up();
    let ran = group.run(&["sh", "-c", "sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 &) ; exit 0"]);
    assert_eq!(ran.status, Some(0));
    // A `setsid` or `sh` that has not become its `sleep` yet is a child as well.
    assert_eq!(ran.left.len(), 3, "{:?}", ran.left);
    let left: Vec<String> = group.traces.processes().into_iter().map(|process| process.name).collect();
    assert!(!left.iter().any(|name| name == "sleep"), "{left:?}");
    group.tear_down();
    Outcome::Passed
}

/// Children of a program that ends at once have just been forked, or are in the middle of an exec,
/// when they have no environment by which they are known.
fn no_child_escapes() -> Outcome {
    let group = up();
    for _ in 0..100 {
        let ran =
            group.run(&["sh", "-c", "setsid sleep 1001 & setsid sleep 1002 & setsid sleep 1003 & exit 0"]);
        assert_eq!(ran.left.len(), 3, "{:?}", ran.left);
    }
    group.tear_down();
    Outcome::Passed
}

fn a_program_is_ended_when_asked() -> Outcome {
    let group = up();
    group.wait_for(async {
        let argv = ["sh", "-c", "sleep 1001 & echo on; wait"];
        let mut events = group.client.start_process(&spec(&argv)).await.expect("a program");
        let Ok(Some(ProcessEvent::Started { pid })) = events.next().await else {
            panic!("the first event is no start");
        };
        let Ok(Some(ProcessEvent::Line { text })) = events.next().await else {
            panic!("the second event is no line");
        };
        assert_eq!(text, "on");
        group.client.end_process(pid).await.expect("it is ended");
        let Ok(Some(ProcessEvent::Ended { status: None, signal: Some(9), .. })) = events.next().await else {
            panic!("the third event is no end by signal 9");
        };
        assert!(events.next().await.expect("the stream's end").is_none());
        let error = group.client.end_process(pid).await.expect_err("it has ended").to_string();
        assert!(error.contains("has ended"), "{error}");
    });
    group.tear_down();
    Outcome::Passed
}

fn a_program_is_ended_when_nobody_listens() -> Outcome {
    let group = up();
    group.wait_for(async {
        let argv = ["sh", "-c", "echo on; exec sleep 1001"];
        let mut events = group.client.start_process(&spec(&argv)).await.expect("a program");
        events.next().await.expect("its start");
        events.next().await.expect("its line");
        let processes = group.traces.processes();
        let started = processes.iter().find(|process| ["sh", "sleep"].contains(&&*process.name));
        let pidfd = pidfd(started.expect("it runs").pid).expect("it runs");
        drop(events);
        // This event loop closes the connection, so it must not be held up by the wait.
        let ended = tokio::task::spawn_blocking(move || wait_for_end(&pidfd, Duration::from_secs(10)));
        assert!(ended.await.expect("the wait ends"), "it runs on, with nobody to listen");
    });
    group.tear_down();
    Outcome::Passed
}

fn a_program_that_is_not_there_is_told() -> Outcome {
    let group = up();
    let started = group.wait_for(group.client.start_process(&spec(&["/no/such/program"])));
    let error = started.expect_err("there is no such program").to_string();
    assert!(error.contains("there is no program /no/such/program\nhint: check the path"), "{error}");
    let started = group.wait_for(group.client.start_process(&spec(&["no-such-program"])));
    let error = started.expect_err("there is no such program").to_string();
    assert!(error.contains("no-such-program is not installed, or not on PATH\nhint: "), "{error}");
    assert!(!error.contains("apt-get"), "a package that has it is not known: {error}");
    group.tear_down();
    Outcome::Passed
}

/// An event loop of the runner must not take from its owners what they wait by: they are copies of
/// the runner, with its open files.
fn owners_of_a_process_with_an_event_loop() -> Outcome {
    drop(event_loop());
    let kept = event_loop();
    kept.block_on(async { tokio::task::yield_now().await });
    for owner in ["first", "second"] {
        let group = up();
        let ran = group.wait_for(async { tokio::time::timeout(SOON, group.ran(&["true"])).await });
        let ran = ran.unwrap_or_else(|_| panic!("the {owner} owner does not see that its program has ended"));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        group.tear_down();
    }
    drop(kept);
    Outcome::Passed
}
