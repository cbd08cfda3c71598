use super::*;
use crate::Outcome;

const SCREEN: Size = Size { columns: 80, rows: 24 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn planned(names: &[&str]) -> Event {
    let vm = |name: &&str| PlannedVm {
        name: (*name).to_owned(),
        address: "fd00:c38c:bd92:1000:6801:c4ff:fe86:22ee".parse().unwrap(),
        autostart: *name != "off",
    };
    Event::Planned {
        suite: "suite".to_owned(),
        resources: String::new(),
        vms: names.iter().map(vm).collect(),
        acceleration: String::new(),
        reason: String::new(),
    }
}

fn sign(vm: &str, sign: VmSign) -> Event {
    Event::Vm { vm: vm.to_owned(), sign }
}

fn started(name: &str) -> Event {
    Event::Started { name: name.to_owned() }
}

/// Lines without colours, as a reader sees them.
fn shown(board: &Board, size: Size, now: Duration) -> Vec<String> {
    let lines = board.lines(size, now);
    lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
}

fn board(events: &[(Event, u64)]) -> Board {
    let mut board = Board::default();
    for (event, seconds) in events {
        board.take(event, at(*seconds));
    }
    board
}

#[test]
fn a_vm_has_one_line_whatever_happens_to_it_until_it_answers() {
    let mut board = board(&[(planned(&["n1", "off"]), 0)]);
    let mut states = Vec::new();
    let unpacking = ImageStep::Unpacking { percent: 100, mib: 300 };
    let steps = [
        Event::Preparing { vm: "n1".to_owned(), step: unpacking },
        Event::Starting,
        sign("n1", VmSign::Spoke),
        sign("n1", VmSign::Event(VmEvent::Reachable)),
        sign("n1", VmSign::Event(VmEvent::Answering)),
        // A console may speak late.
        sign("n1", VmSign::Spoke),
    ];
    for (event, second) in steps.iter().zip(1..) {
        board.take(event, at(second));
        let lines = shown(&board, SCREEN, at(second));
        assert_eq!(lines.len(), 1, "{lines:?}");
        states.push(lines[0].clone());
    }
    let line = |state: &str, seconds: u64| {
        format!("  {:<13} fd00:c38c:bd92:1000:6801:c4ff:fe86:22ee {state:<14} {seconds:>4} s", "n1")
    };
    // Seconds count from the start, and stand still once it answers.
    let expected = [
        line("unpacking 100%", 1),
        line("starting", 0),
        line("booting", 1),
        line("address is up", 2),
        line("answers", 3),
        line("answers", 3),
    ];
    assert_eq!(states, expected);
    assert!(states.iter().all(|line| line.len() == 77), "{states:?}");
    assert_eq!(board.take_up(SCREEN, at(9)).len(), 1);
    assert!(!board.is_moving());
}

#[test]
fn lines_stay_until_all_are_up_and_a_vm_that_went_off_is_not_waited_for() {
    let mut board = board(&[
        (planned(&["a", "b"]), 0),
        (Event::Starting, 0),
        (sign("a", VmSign::Event(VmEvent::Answering)), 5),
    ]);
    assert!(board.take_up(SCREEN, at(5)).is_empty());
    board.take(&sign("b", VmSign::Event(VmEvent::Off { reason: "killed".to_owned() })), at(6));
    assert_eq!(board.take_up(SCREEN, at(6)).len(), 1);
    board.take(&sign("b", VmSign::Event(VmEvent::On { boot: 2 })), at(7));
    let lines = shown(&board, SCREEN, at(9));
    assert!(lines.len() == 1 && lines[0].contains("starting") && lines[0].ends_with("   2 s"), "{lines:?}");
}

#[test]
fn a_function_shows_what_it_waits_for_and_for_how_long_it_runs() {
    let mut board = board(&[(started("setup"), 3)]);
    let waiting =
        Event::Waiting { name: "setup".to_owned(), what: Some("VM a: waiting for port 22".to_owned()) };
    board.take(&waiting, at(4));
    let lines = shown(&board, SCREEN, at(15));
    assert!(
        lines[0].starts_with("  setup   ") && lines[0].ends_with("VM a: waiting for port 22   12 s"),
        "{lines:?}"
    );
    board.take(&Event::Ended { name: "setup".to_owned(), outcome: Outcome::Passed, seconds: 1.0 }, at(16));
    assert!(shown(&board, SCREEN, at(16)).is_empty());
}

/// Whatever the names, whatever the screen.
#[test]
fn no_line_is_wider_than_the_screen_and_none_is_more_than_it_has() {
    let long = "ein_sehr_langer_名前_".repeat(20);
    let names: Vec<String> = (0..40).map(|number| format!("{long}{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut board = board(&[(planned(&names), 0), (Event::Starting, 0)]);
    for name in &names {
        board.take(&started(name), at(0));
        let what = Some(format!("VM {name}: waiting\r\nfor\x1b[2J its SSH server"));
        board.take(&Event::Waiting { name: (*name).to_owned(), what }, at(0));
    }
    for (columns, rows) in [(80, 24), (200, 50), (40, 10), (20, 5), (8, 3), (1, 1)] {
        let size = Size { columns, rows };
        let lines = shown(&board, size, at(123_456));
        assert!(lines.len() <= rows.saturating_sub(ROWS_SPARE).max(2), "{columns}×{rows}: {}", lines.len());
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        if columns >= 20 {
            assert!(lines.iter().all(|line| line.width() <= columns - SPARE), "{columns}: {lines:#?}");
        }
    }
    let lines = shown(&board, SCREEN, at(1));
    assert!(lines.iter().any(|line| line == "  … 40 VMs, 0 answer"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("more run")), "{lines:#?}");
    assert!(
        lines[0].contains('…') && lines[0].contains("fd00:c38c:bd92:1000:6801:c4ff:fe86:22ee"),
        "{lines:#?}"
    );
}

#[test]
fn a_line_has_the_name_of_its_vm_at_any_width_from_20_columns() {
    for name in ["n1", "node-1", "a-long-name-of-a-vm"] {
        let mut board = board(&[(planned(&[name]), 0), (Event::Starting, 0)]);
        for state in [VmSign::Spoke, VmSign::Event(VmEvent::Reachable), VmSign::Event(VmEvent::Answering)] {
            board.take(&sign(name, state), at(1));
            for columns in 20..200 {
                let size = Size { columns, rows: 24 };
                let lines = shown(&board, size, at(99));
                assert_eq!(lines.len(), 1, "{lines:?}");
                assert!(lines[0].width() <= columns - SPARE, "{columns}: {lines:?}");
                assert!(lines[0].contains(&name[..name.len().min(5)]), "{columns}: {lines:?}");
            }
        }
    }
}

#[test]
fn prose_is_broken_between_words() {
    let text = "runs by tcg: /dev/kvm opens, but a kernel did not boot";
    assert_eq!(folded(text, 30), ["runs by tcg: /dev/kvm", "opens, but a kernel did", "not boot"]);
}

#[test]
fn a_short_text_is_whole_and_a_long_one_ends_with_an_ellipsis() {
    assert_eq!(shortened("short", 5), "short");
    assert_eq!(shortened("longer", 5), "long…");
    // Of a character of two columns there is no half.
    assert_eq!(shortened("名前名前", 4), "名…");
}

#[test]
fn a_group_that_waits_for_room_has_its_place_on_the_board_until_it_is_admitted() {
    let queued = |place| Event::Queued {
        needs: "1 CPU and 608 MiB".to_owned(),
        place: Some(place),
        held: "2 CPUs and 1216 MiB of 2 CPUs and 2000 MiB are held: east (1 CPU and 608 MiB, since 18:03:12)"
            .to_owned(),
    };
    let mut board = board(&[(planned(&["n1"]), 0), (queued((2, 3)), 1), (queued((1, 2)), 4)]);
    let lines = shown(&board, SCREEN, at(11));
    assert_eq!(lines[1], "  waiting for 1 CPU and 608 MiB: place 1 of 2                            10 s");
    assert!(lines[2].starts_with("    2 CPUs and 1216 MiB of") && lines[2].ends_with('…'), "{lines:?}");
    assert!(lines.iter().all(|line| line.width() <= 77), "{lines:?}");
    board.take(&Event::Admitted { needs: String::new(), seconds: 10.0 }, at(11));
    assert_eq!(shown(&board, SCREEN, at(11)).len(), 1);
}
