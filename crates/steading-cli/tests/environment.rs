//! Every environment variable and every number on the command line, with values that cannot be: each is refused before
//! anything starts, and by its name.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use steading_plan::{Expected, VARIABLES, Variable};

/// What is said of a mistake of the caller.
const USAGE: i32 = 2;

const TESTNET: &str = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"disk\" }\n";

fn steading(dir: &Path, words: &[&str], variables: &[(&str, &OsStr)]) -> Output {
    std::fs::write(dir.join("one.toml"), TESTNET).unwrap();
    std::fs::write(dir.join("disk"), vec![0; 1 << 20]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_steading"));
    command.args(words).current_dir(dir).env("STEADING_ACCEL", "tcg").env_remove("STEADING_TIMEOUT_FACTOR");
    command.env("STEADING_CACHE_DIR", dir.join("cache"));
    command.envs(variables.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Values that none of these takes.
fn bad(expected: Expected) -> &'static [&'static [u8]] {
    match expected {
        Expected::Anything => &[],
        Expected::Text | Expected::Path | Expected::Switch => &[b"\xff\xfe"],
        Expected::OneOf(_) => &[b"abc", b"\xff", b" "],
        Expected::Integer { .. } => &[b"abc", b"-1", b"1.5", b"18446744073709551616", b"\xff"],
        Expected::Number { .. } => &[b"abc", b"0", b"nan", b"-1", b"inf", b"1e400", b"\xff"],
        Expected::DeclaredVms => &[b"abc", b"{\"n1\":1}", b"\xff"],
    }
}

#[test]
fn each_variable_with_a_bad_value_ends_the_program_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bazel = ("TEST_SRCDIR", OsStr::new("/runfiles"));
    for Variable { name, expected, .. } in VARIABLES {
        for value in bad(*expected) {
            let output =
                steading(dir.path(), &["plan", "one.toml"], &[bazel, (name, OsStr::from_bytes(value))]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(USAGE), "{name}={value:?}: {said}");
            assert!(said.starts_with(&format!("error: {name} is \"")), "{name}={value:?}: {said}");
            assert!(output.stdout.is_empty(), "{name}={value:?}");
        }
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    // Without PATH no QEMU is found, and without a cache this machine's is used.
    let kept = ["PATH", "STEADING_CACHE_DIR", "STEADING_ACCEL"];
    let names = VARIABLES.iter().map(|variable| variable.name).filter(|name| !kept.contains(name));
    let empty: Vec<(&str, &OsStr)> = names.map(|name| (name, OsStr::new(""))).collect();
    let output = steading(dir.path(), &["plan", "one.toml"], &empty);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn help_is_given_whatever_the_environment_holds() {
    let dir = tempfile::tempdir().unwrap();
    let bad = [("STEADING_BROKER_CPUS", OsStr::new("many")), ("STEADING_TIMEOUT_FACTOR", OsStr::new("0"))];
    for words in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert!(steading(dir.path(), words, &bad).status.success(), "{words:?}");
    }
}

#[test]
fn numbers_of_the_command_line_that_wrap_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let most = u64::MAX.to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["cache", "gc", "--max-mib", &most], "--max-mib"),
        (&["image", "gc", "--days", &most], "--days"),
        (&["image", "gc", "--days", "36601"], "--days"),
        (&["up", "one.toml", "--broker-cpus", "0"], "--broker-cpus"),
        (&["up", "one.toml", "--broker-memory-mib=-1"], "--broker-memory-mib"),
        (&["up", "one.toml", "--oversubscription", "0"], "--oversubscription"),
    ];
    for (words, flag) in cases {
        let output = steading(dir.path(), words, &[]);
        assert_eq!(output.status.code(), Some(USAGE), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(flag), "{words:?}: {}", said(&output));
    }
}

#[test]
fn a_disk_of_more_bytes_than_there_are_is_refused_by_plan_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    for mib in ["17592186046464", "17592186044416", "9223372036854775807", "2147483649"] {
        std::fs::write(dir.path().join("large.toml"), format!("{TESTNET}disk_mib = {mib}\n")).unwrap();
        let output = steading(dir.path(), &["plan", "large.toml"], &[]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(USAGE), "{said}");
        assert!(said.contains(mib) && said.contains("a disk has 1 to 2147483648 MiB"), "{said}");
    }
}
