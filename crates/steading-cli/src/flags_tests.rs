//! Every option that takes a value is tried with values that it does not take.

use std::collections::{BTreeMap, BTreeSet};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _};

use crate::Cli;

/// Options whose values are checked when the command line is read, with some that are refused.
const CHECKED: &[(&str, &[&str])] = &[
    ("broker-cpus", &["0", "-1", "1.5", "many", ""]),
    ("broker-memory-mib", &["0", "-1", "1.5", "many", ""]),
    ("oversubscription", &["0", "-1", "1.5", "many", ""]),
    ("engine", &["kvm", "QEMU", ""]),
    ("isolation", &["none", "Auto", ""]),
    ("max-mib", &["-1", "18446744073709551615", "many", ""]),
    ("days", &["-1", "36601", "many", ""]),
    ("sha256", &["abc", ""]),
    ("port", &["0", "65536", "-1", "ssh", ""]),
    ("console", &["[", "("]),
    ("limit", &["soon", "-5s", ""]),
    ("settle", &["soon", "-5s", ""]),
    ("grep", &["[", "("]),
    ("since", &["yesterday", ""]),
    ("jitter", &["1", "soon", ""]),
    ("clock", &["then", ""]),
    ("print", &["all", ""]),
    // Of programs that are interrupted, and of waits for a boot.
    ("grace", &["soon", "-5s", ""]),
    ("boot", &["-1", "many", ""]),
];

/// Options that take any text, any path, or a name that only a group knows.
const FREE: &[&str] = &[
    "binaries",
    "broker-dir",
    "cname",
    "command",
    "forget",
    "from",
    "group",
    "id",
    "kernel",
    "local",
    "name",
    "out",
    "selected",
    "ssh",
    "stream",
    "suffix",
    "to",
    "txt",
    "unit",
    "vm",
    "with",
];

/// The options of a command and of those below it, each with the words that lead to it.
fn options(command: &Command, words: &[String], found: &mut BTreeMap<String, Vec<String>>) {
    for option in command.get_opts() {
        let takes_value = option.get_num_args().is_some_and(|count| count.takes_values());
        if let Some(long) = option.get_long().filter(|_| takes_value) {
            found.entry(long.to_owned()).or_insert_with(|| words.to_vec());
        }
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        options(below, &[words, &[below.get_name().to_owned()]].concat(), found);
    }
}

#[test]
fn each_option_with_a_bad_value_is_refused_by_name() {
    let mut command = Cli::command();
    command.build();
    let mut found = BTreeMap::new();
    options(&command, &["steading".to_owned()], &mut found);
    let mut unknown: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    for option in FREE {
        unknown.remove(option);
    }
    for (option, values) in CHECKED {
        let Some(words) = found.get(*option) else { continue };
        unknown.remove(option);
        for value in *values {
            let args = words.iter().cloned().chain([format!("--{option}={value}")]);
            let error = Cli::command().try_get_matches_from(args).expect_err(option);
            let is_about_it = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
            assert!(is_about_it && error.to_string().contains(&format!("--{option}")), "{value:?}: {error}");
        }
    }
    assert!(unknown.is_empty(), "neither checked nor free: {unknown:?}");
}
