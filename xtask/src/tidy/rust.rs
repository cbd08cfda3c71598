//! Rules on Rust sources.

use camino::Utf8Path;

use super::{
    File, Finding,
    source::{code_only, has_word, tests_start},
};

/// No module is longer; whoever reads one should be able to keep it in mind.
const MAX_LINES: usize = 800;

/// The only crate that may be `unsafe`.
const UNSAFE: &str = "crates/steading-sys/";
/// The only module that starts processes.
const PROCESSES: &str = "crates/steading-sys/src/process.rs";
/// Who may print: the command line, the renderings of events, programs that only print, and
/// suites, which are tests as users write them.
const PRINTS: &[&str] = &[
    "crates/steading-cli/",
    "crates/steading-report/",
    "crates/steading-bench/",
    "crates/steading-launcher/",
    "fuzz/src/main.rs",
    "suites/",
    "xtask/",
];

/// Where standard output and standard error are written to.
const OUTPUTS: &str = "crates/steading-report/src/output.rs";

/// Where every environment variable is named.
const VARIABLES: &str = "crates/steading-plan/src/env_vars.rs";

/// Where something may sleep, and why no event could be waited for instead.
const SLEEPS: &[(&str, &str)] = &[
    (
        "crates/steading-bench/src/group.rs",
        "the kernel does not tell when it has removed the interfaces of a namespace that has ended",
    ),
    (
        "crates/steading-group/src/log.rs",
        "a deadline, raced against messages: when lines are due to be written",
    ),
    ("crates/steading-group/src/relay/mod.rs", "a frame is to arrive later: that is what it is for"),
    ("crates/steading-group/src/vm/settle.rs", "the kernel does not tell when a process has come to rest"),
    ("crates/steading-group/src/vm/stall.rs", "no event tells that a guest does nothing"),
    ("crates/steading-harness/src/backoff.rs", "back-off: a command's success or an open port tells nobody"),
    ("crates/steading-logs/src/journal/follow.rs", "back-off: no event tells that a guest begins to listen"),
    ("crates/steading-logs/src/journal/http.rs", "a time limit, raced against the answer"),
    ("crates/steading-vm/src/agent/exec.rs", "the guest agent's protocol has no event for a program's end"),
    (
        "crates/steading-vm/src/engine/simulated/machine.rs",
        "a simulated guest takes its time: that is what it is for",
    ),
    ("crates/steading-vm/tests/guest_agent.rs", "the agent, run by itself, gives no sign that it listens"),
];

/// What is wrong with one source.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let code = code_only(file.text());
    let mut findings = Vec::new();
    findings.extend(length(file));
    findings.extend(crate_documentation(file));
    findings.extend(unsafe_code(file, &code));
    findings.extend(processes(file, &code));
    findings.extend(sleeps(file, &code));
    findings.extend(signal_handlers(file, &code));
    findings.extend(prints(file, &code));
    findings.extend(outputs(file, &code));
    findings.extend(unfinished(file, &code));
    findings.extend(variables(file, &code));
    findings
}

/// Exceptions that nothing needs any more.
pub(super) fn check_exceptions(files: &[File]) -> Vec<Finding> {
    stale(SLEEPS, files)
}

fn stale(allowed: &[(&str, &str)], files: &[File]) -> Vec<Finding> {
    let listed = files.iter().filter(|file| allowed.iter().any(|(path, _)| file.path == *path));
    let sleepless = listed.filter(|file| sleeps_but_for(&[], file, &code_only(file.text())).is_empty());
    sleepless
        .map(|file| Finding::of(file, "nothing sleeps here: remove it from SLEEPS of tidy/rust.rs"))
        .collect()
}

fn length(file: &File) -> Option<Finding> {
    let lines = file.text().lines().count();
    let what = || format!("{lines} lines, and no module has more than {MAX_LINES}; split it by nouns");
    (lines > MAX_LINES).then(|| Finding::of(file, what()))
}

fn crate_documentation(file: &File) -> Option<Finding> {
    let first = file.text().lines().find(|line| !line.trim().is_empty());
    let lacks = file.path.ends_with("src/lib.rs") && !first.is_some_and(|line| line.starts_with("//!"));
    lacks.then(|| Finding::of(file, "a crate starts with `//!`, saying what problem it solves"))
}

/// A finding for each line of code, up to `until`, that has one of the words.
fn lines_with(
    file: &File,
    code: &str,
    until: usize,
    words: &[&str],
    what: impl Fn(&str) -> String,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in code.lines().enumerate().take(until) {
        if let Some(word) = words.iter().find(|word| has_word(line, word)) {
            findings.push(Finding::at(file, at + 1, what(word)));
        }
    }
    findings
}

fn unsafe_code(file: &File, code: &str) -> Vec<Finding> {
    if file.path.starts_with(UNSAFE) {
        return Vec::new();
    }
    lines_with(file, code, usize::MAX, &["unsafe"], |_| format!("unsafe code is in {UNSAFE} only"))
}

/// Tests, suites and benchmarks start programs as their users would, and xtask is no part of the
/// product.
fn processes(file: &File, code: &str) -> Vec<Finding> {
    let exempt = ["xtask", "suites", "crates/steading-bench", "crates/steading-testing"];
    if file.path == PROCESSES || exempt.iter().any(|dir| file.path.starts_with(dir)) || is_test(&file.path) {
        return Vec::new();
    }
    // `std::process::{Command, …}` may be spread over lines: the name alone is what tells, and
    // `Command::new` is no method of anything else here.
    let words = ["process::Command", "tokio::process", "Command::new"];
    lines_with(file, code, tests_start(code), &words, |_| {
        format!("processes are started in {PROCESSES} only")
    })
}

/// In tests too: they wait for what they wait for.
fn sleeps(file: &File, code: &str) -> Vec<Finding> {
    sleeps_but_for(SLEEPS, file, code)
}

fn sleeps_but_for(allowed: &[(&str, &str)], file: &File, code: &str) -> Vec<Finding> {
    if allowed.iter().any(|(path, _)| file.path == *path) {
        return Vec::new();
    }
    lines_with(file, code, usize::MAX, &["sleep(", "sleep_until("], |_| {
        "nothing sleeps to wait: await the event, or bound it with a time-out (exceptions: SLEEPS of \
         xtask/src/tidy/rust.rs)"
            .to_owned()
    })
}

/// A handler's pipe would be shared with the owner of a group, which is made with no exec.
fn signal_handlers(file: &File, code: &str) -> Vec<Finding> {
    let words = ["tokio::signal", "signal_hook"];
    lines_with(file, code, usize::MAX, &words, |_| {
        "signals are read from signalfd(2), by `steading_sys::signal`, not handled".to_owned()
    })
}

fn prints(file: &File, code: &str) -> Vec<Finding> {
    if PRINTS.iter().any(|allowed| file.path.starts_with(allowed)) || is_test(&file.path) {
        return Vec::new();
    }
    let words = ["println!", "eprintln!", "print!", "eprint!"];
    lines_with(file, code, tests_start(code), &words, |word| {
        format!("{word} is for the command line and the report; what happens is an event")
    })
}

/// An output that is full or closed must not end a program in the middle, and decides its status.
fn outputs(file: &File, code: &str) -> Vec<Finding> {
    let is_ours = ["crates/steading-cli/", "crates/steading-harness/", "crates/steading-report/"];
    if file.path == OUTPUTS || is_test(&file.path) || !is_ours.iter().any(|ours| file.path.starts_with(ours))
    {
        return Vec::new();
    }
    lines_with(
        file,
        code,
        tests_start(code),
        &[
            "stdout().write",
            "stderr().write",
            "tokio::io::stdout",
            "tokio::io::stderr",
            "std::io::stdin().read",
            "tokio::io::stdin",
        ],
        |word| {
            format!(
                "{word}: standard streams are used by {OUTPUTS} and crate::input, which know of full, closed and background ones"
            )
        },
    )
}

/// The reference page on the environment is made of that one file, so a name elsewhere is not in it.
fn variables(file: &File, code: &str) -> Vec<Finding> {
    if !file.path.starts_with("crates") || is_test(&file.path) {
        return Vec::new();
    }
    // A literal is blank here, so nothing but one is followed by a space.
    let words = ["env::var( ", "env::var_os( "];
    lines_with(file, code, tests_start(code), &words, |_| {
        format!("environment variables are named in {VARIABLES} only, which the reference is made of")
    })
}

fn unfinished(file: &File, code: &str) -> Vec<Finding> {
    let words = ["todo!", "unimplemented!"];
    lines_with(file, code, usize::MAX, &words, |word| format!("{word} does not belong in what is committed"))
}

/// A file of `tests/`, or one that holds a module's unit tests.
pub(super) fn is_test(path: &Utf8Path) -> bool {
    let name = path.file_stem().unwrap_or_default();
    path.components().any(|part| part.as_str() == "tests") || name == "tests" || name.ends_with("_tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&File::new(path, text)).iter().map(ToString::to_string).collect()
    }

    fn finds(path: &str, text: &str, what: &str) -> bool {
        found(path, text).iter().any(|finding| finding.contains(what))
    }

    #[test]
    fn a_module_may_have_800_lines_and_no_more() {
        assert!(!finds("crates/x/src/a.rs", &"\n".repeat(800), "lines"));
        assert!(finds("crates/x/src/a.rs", &"\n".repeat(801), "801 lines"));
    }

    #[test]
    fn a_crate_says_what_it_is() {
        assert!(finds("crates/x/src/lib.rs", "mod a;\n", "//!"));
        assert!(finds("crates/x/src/lib.rs", "", "//!"));
        assert!(!finds("crates/x/src/lib.rs", "\n//! Solves it.\n", "//!"));
        assert!(!finds("crates/x/src/a.rs", "mod a;\n", "//!"));
    }

    #[test]
    fn unsafe_code_is_found_outside_its_crate() {
        assert_eq!(
            found("crates/steading-vm/src/a.rs", "fn f() {\n    unsafe { g() }\n}\n"),
            ["crates/steading-vm/src/a.rs:2: unsafe code is in crates/steading-sys/ only"]
        );
        assert!(!finds("crates/steading-sys/src/a.rs", "unsafe {}", "unsafe"));
        assert!(!finds("crates/x/src/a.rs", "#![forbid(unsafe_code)] // unsafe\n", "unsafe"));
    }

    #[test]
    fn processes_are_found_outside_their_module() {
        for text in ["use std::process::Command;", "use tokio::process::Child;", "Command::new(\"ip\")"] {
            assert!(finds("crates/x/src/a.rs", text, "processes"), "{text}");
            assert!(!finds("crates/steading-sys/src/process.rs", text, "processes"));
            assert!(!finds("crates/x/tests/a.rs", text, "processes"));
            assert!(!finds("xtask/src/a.rs", text, "processes"));
        }
        assert!(!finds("crates/x/src/a.rs", "enum Command {}", "processes"));
        assert!(!finds("crates/x/src/a.rs", "#[cfg(test)]\nmod tests {\n Command::new(x)\n}", "processes"));
    }

    #[test]
    fn a_sleep_is_found_even_in_tests() {
        assert!(finds("crates/x/tests/a.rs", "tokio::time::sleep(wait).await", "sleeps"));
        assert!(finds("crates/x/src/a.rs", "std::thread::sleep(wait)", "sleeps"));
        assert!(!finds("crates/x/src/a.rs", "// no sleep(here)", "sleeps"));
    }

    #[test]
    fn a_variable_that_is_named_where_it_is_read_is_found() {
        for text in ["std::env::var(\"A\")", "std::env::var_os(\"A\")"] {
            assert!(finds("crates/x/src/a.rs", text, "environment"), "{text}");
            assert!(!finds("crates/x/tests/a.rs", text, "environment"));
            assert!(!finds("suites/x/src/main.rs", text, "environment"));
        }
        assert!(!finds("crates/x/src/a.rs", "std::env::var(env_vars::A)", "environment"));
    }

    #[test]
    fn a_signal_handler_is_found() {
        assert!(finds("crates/x/src/a.rs", "use tokio::signal::unix::signal;", "signalfd"));
        assert!(!finds("crates/x/src/a.rs", "use steading_sys::signal::Signals;", "signalfd"));
    }

    #[test]
    fn a_sleep_with_a_reason_is_let_be() {
        let file = File::new("crates/x/src/a.rs", "sleep(wait)");
        let allowed = [("crates/x/src/a.rs", "the other side tells nothing")];
        assert!(sleeps_but_for(&allowed, &file, file.text()).is_empty());
        assert_eq!(sleeps_but_for(&[], &file, file.text()).len(), 1);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_found() {
        let allowed = [("crates/x/src/a.rs", "the other side tells nothing")];
        assert_eq!(stale(&allowed, &[File::new("crates/x/src/a.rs", "fn f() {}")]).len(), 1);
        assert!(stale(&allowed, &[File::new("crates/x/src/a.rs", "sleep(wait)")]).is_empty());
    }

    #[test]
    fn a_standard_stream_is_found_outside_the_place_for_it() {
        assert!(finds("crates/steading-harness/src/a.rs", "tokio::io::stdout()", "standard streams"));
        assert!(!finds(
            "crates/steading-report/src/output.rs",
            "io::stdout().write_all(b)",
            "standard streams"
        ));
    }

    #[test]
    fn a_print_is_found_outside_the_command_line() {
        assert!(finds("crates/x/src/a.rs", "println!(\"x\")", "println!"));
        assert!(finds("crates/x/src/a.rs", "eprint!(\"x\")", "eprint!"));
        assert!(!finds("crates/steading-cli/src/main.rs", "println!(\"x\")", "println!"));
        assert!(!finds("crates/x/src/a.rs", "let s = \"println!\";", "println!"));
    }

    #[test]
    fn what_is_unfinished_is_found() {
        assert!(finds("crates/x/src/a.rs", "fn f() { todo!() }", "todo!"));
        assert!(finds("crates/x/tests/a.rs", "unimplemented!()", "unimplemented!"));
    }

    #[test]
    fn files_of_tests_are_known_by_name() {
        for path in ["crates/x/tests/a.rs", "crates/x/src/tests.rs", "crates/x/src/files_tests.rs"] {
            assert!(is_test(path.into()), "{path}");
        }
        assert!(!is_test("crates/x/src/latests.rs".into()));
    }
}
