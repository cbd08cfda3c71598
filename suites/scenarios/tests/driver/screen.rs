//! What is to be seen while functions run, on a terminal of 80 columns and where there is none.

use steading_testing::terminal::{Screen, Terminal};

use crate::support::{LIMIT, Ran, Scenario};

fn rows(screen: &Screen) -> Vec<String> {
    let (_, columns) = screen.size();
    screen.rows(0, columns).map(|row| row.trim_end().to_owned()).filter(|row| !row.is_empty()).collect()
}

/// The rows that tell what runs: they begin with two spaces and end with seconds.
fn running(screen: &Screen) -> Vec<String> {
    let is_running = |row: &String| {
        let seconds = row.strip_suffix(" s").and_then(|row| row.rsplit(' ').next());
        row.starts_with("  ") && seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok())
    };
    rows(screen).into_iter().filter(is_running).collect()
}

/// Runs the scenario on a terminal until it has been running for a second, and then to its end.
fn on_a_terminal(variables: &[(&str, &str)]) -> (Ran, Terminal, Vec<String>) {
    let mut scenario = Scenario::new("screen", &[]);
    scenario.command.envs(variables.iter().copied());
    let (child, mut terminal) = scenario.on_a_terminal(80, 24);
    let mut seen = Vec::new();
    terminal.wait_until("seconds to pass", LIMIT, |screen| {
        seen = running(screen);
        let all_said = screen.contents().contains("word 59 ");
        all_said && seen.len() == 3 && seen.iter().all(|row| !row.ends_with(" 0 s"))
    });
    let last = rows(terminal.screen());
    assert!(last.ends_with(&seen), "what runs stands below: {last:#?}");
    std::fs::write(scenario.dir.path().join("go"), "").expect("a sign");
    terminal.read_to_end(LIMIT);
    (scenario.wait(child), terminal, seen)
}

#[test]
fn a_terminal_shows_what_runs_in_lines_that_change_in_place_and_tears_no_other() {
    let (ran, mut terminal, seen) = on_a_terminal(&[]);
    ran.assert_code(0);
    assert!(seen.iter().all(|row| row.chars().count() <= 77), "{seen:#?}");
    assert!(seen[1].starts_with("  all::a_function_whose_name") && seen[1].contains("… "), "{seen:#?}");
    assert!(seen[2].starts_with("  all::waits  "), "{seen:#?}");
    // Nothing of them is left in the end, and whatever was printed stands there whole.
    assert_eq!(running(terminal.screen()), [""; 0]);
    let history = terminal.history();
    // Without the ends of rows: a long line goes on in the next.
    let joined: String = history.lines().collect();
    for number in 0..60 {
        let line = format!("word {number} {}", "=".repeat(number * 2));
        assert!(joined.contains(line.trim_end()), "{line:?} is torn:\n{history}");
    }
    assert!(history.ends_with("3 passed, 0 failed, 0 skipped"), "{history}");
    assert!(history.lines().all(|line| line.chars().count() <= 80));
    assert!(!history.contains("talks …"), "a line for what the moving ones tell:\n{history}");
}

#[test]
fn a_terminal_without_colour_has_moving_lines_and_none_coloured() {
    let (ran, terminal, _) = on_a_terminal(&[("NO_COLOR", "1")]);
    ran.assert_code(0);
    let raw = String::from_utf8_lossy(terminal.raw());
    let codes: Vec<&str> = raw.split("\x1b[").skip(1).filter(|code| is_colour(code)).collect();
    assert!(codes.is_empty(), "{codes:?}");
    let (_, coloured, _) = on_a_terminal(&[]);
    let raw = String::from_utf8_lossy(coloured.raw()).into_owned();
    assert!(raw.split("\x1b[").skip(1).any(is_colour), "there are none to be left out");
}

/// Whether what follows a control sequence's introducer sets how characters look (SGR, ECMA-48).
fn is_colour(code: &str) -> bool {
    code.find(|c: char| c.is_ascii_alphabetic()).is_some_and(|end| code[end..].starts_with('m'))
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let mut scenario = Scenario::new("success", &[]);
    // Where there is CI, colours are taken to be understood, whatever the terminal.
    scenario.command.env("TERM", "dumb").env_remove("CI");
    let (child, mut terminal) = scenario.on_a_terminal(80, 24);
    terminal.read_to_end(LIMIT);
    scenario.wait(child).assert_code(0);
    let raw = String::from_utf8_lossy(terminal.raw());
    // The terminal itself makes a carriage return of each line's end (ONLCR, termios(3)).
    let raw = raw.replace("\r\n", "\n");
    assert!(!raw.contains(['\r', '\x1b']), "{raw:?}");
    assert!(raw.contains(" s  first …\n"), "{raw}");
}

#[test]
fn without_a_terminal_nothing_moves_and_each_change_is_a_line_with_its_second() {
    let plain = Scenario::new("success", &[]).run();
    for said in [&plain.stderr, &plain.stdout] {
        assert!(!said.contains(['\r', '\x1b']), "{said:?}");
    }
    let lines: Vec<&str> = plain.stderr.lines().skip(2).collect();
    assert!(lines.iter().all(|line| line.get(7..11) == Some(" s  ")), "{lines:#?}");
    let changes: Vec<&str> = lines.iter().map(|line| &line[11..]).collect();
    assert_eq!(changes[1..3], ["setup …", "setup passed (0.0 s)"], "{changes:#?}");
    let mut forced = Scenario::new("success", &[]);
    forced.command.env("CLICOLOR_FORCE", "1");
    let forced = forced.run();
    assert!(forced.stderr.contains("\x1b["), "{:?}", forced.stderr);
    assert!(forced.stderr.split("\x1b[").skip(1).all(is_colour), "{:?}", forced.stderr);
    assert!(!forced.stderr.contains('\r'), "{:?}", forced.stderr);
}
