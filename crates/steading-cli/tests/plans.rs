//! What `steading plan` prints, and what it refuses, of testnets that no machine here could run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// What a command makes of a testnet with one VM, which boots a kernel that is not there.
fn told(words: &[&str], more: &str) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wide.toml");
    let mut text =
        "[[vm]]\nname = \"n1\"\nboot = { kernel = { kernel = \"k\", cmdline = \"\" } }\n".to_owned();
    writeln!(text, "{more}").expect("a String takes all");
    std::fs::write(&file, text).expect("a testnet");
    let mut command = Command::new(steading());
    command.arg(words[0]).arg(&file).args(&words[1..]).current_dir(dir.path());
    command.env("STEADING_ACCEL", "tcg").env("STEADING_CACHE_DIR", dir.path()).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_testnet_that_does_not_fit_was_not_planned() {
    let more = "memory_mib = 60000000\nvcpus = 200";
    let planned = told(&["plan"], more);
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned.stderr));
    assert!(text(&planned.stdout).contains("VM n1: 200 vCPUs, 60000000 MiB"), "{}", text(&planned.stdout));
    let warned = text(&planned.stderr);
    assert!(warned.contains("it does not fit this machine: the testnet needs 60000096 MiB"), "{warned}");
    assert!(warned.contains("VM n1 has 200 vCPUs, and this machine has "), "{warned}");

    let refused = told(&["up", "--no-broker"], more);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("needs 60000096 MiB of memory"), "{}", text(&refused.stderr));
}

#[test]
fn what_no_way_into_a_guest_carries_was_cut_without_a_word() {
    let credential =
        |name: &str, bytes: usize| format!("config.credentials.{name:?} = {:?}", "x".repeat(bytes));
    let long = credential("a.credential.with.rather.a.long.name", 5000);
    let refused = told(&["plan"], &long);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("VM n1: its credentials take ") && said.contains("of the 4096"), "{said}");

    let fits = told(&["plan"], &credential("short", 140_000));
    assert_eq!(fits.status.code(), Some(0), "{}", text(&fits.stderr));
}
