use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt as _;

use super::*;

/// The source that names all variables.
const SOURCE: &str = include_str!("env_vars.rs");

/// Variables that are only set, or have no name of their own.
const NOT_READ: &[&str] = &[
    "STEADING_IMAGE_PREFIX",
    "STEADING_IMAGE_SHA256_SUFFIX",
    "STEADING_GROUP",
    "STEADING_DOMAIN",
    "STEADING_LOG_DIR",
    "STEADING_FACTS",
    "STEADING_SSH_KEY",
    "STEADING_CA",
    "STEADING_VM_PREFIX",
    "STEADING_JOB",
    "STEADING_OWNER",
];

/// Values that a variable does not take.
fn bad(expected: Expected) -> Vec<OsString> {
    let texts: &[&str] = match expected {
        Expected::Anything => return Vec::new(),
        Expected::Text | Expected::Path | Expected::Switch => &[],
        Expected::OneOf(_) => &["abc", "KVM", " "],
        Expected::Integer { .. } => &["abc", "-1", "1.5", "0x10", "1e3", " ", "18446744073709551616"],
        Expected::Number { .. } => &["abc", "0", "-1", "nan", "inf", "1e300", "0.0000001", "1,5"],
        Expected::DeclaredVms => &["abc", "[]", "{\"n1\":1}", "{\"n1\":{\"vcpus\":-1,\"memory_mib\":1}}"],
    };
    let mut values: Vec<OsString> = texts.iter().map(OsString::from).collect();
    values.push(OsString::from_vec(b"\xff\xfe".to_vec()));
    values
}

fn check(name: &str, value: &OsString) -> Result<(), VariableError> {
    let environment = |asked: &str| match asked {
        "TEST_SRCDIR" => Some("/runfiles".into()),
        asked => (asked == name).then(|| value.clone()),
    };
    check_variables(&environment)
}

#[test]
fn each_variable_that_is_read_is_in_the_table() {
    let constants = SOURCE.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let named: BTreeSet<&str> = constants.filter(|name| !NOT_READ.contains(name)).collect();
    let table: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(named, table);
}

#[test]
fn each_variable_with_a_bad_value_is_refused_by_name() {
    for Variable { name, expected, .. } in VARIABLES {
        for value in bad(*expected) {
            let error = check(name, &value).expect_err(name).to_string();
            assert!(error.starts_with(&format!("{name} is \"")), "{error}");
            assert!(error.contains("expected ") && error.contains("hint: "), "{error}");
        }
        assert_eq!(check(name, &OsString::new()), Ok(()), "an empty {name} is one that is not set");
    }
}

#[test]
fn a_timeout_factor_that_is_no_number_is_refused_by_name() {
    for value in ["abc", "0", "nan", "-1"] {
        let error = number_variable(name::STEADING_TIMEOUT_FACTOR, &|_| Some(value.into())).unwrap_err();
        let expected = "expected a number from 0.001 to 1000";
        assert!(
            error.to_string().starts_with(&format!("STEADING_TIMEOUT_FACTOR is \"{value}\": {expected}"))
        );
    }
    let factor = number_variable(name::STEADING_TIMEOUT_FACTOR, &|_| Some("2.5".into()));
    assert_eq!(factor, Ok(Some(2.5)));
}

#[test]
fn what_only_bazel_sets_is_not_read_without_bazel() {
    let others = |name: &str| (name == "TEST_TIMEOUT").then(|| "soon".into());
    assert_eq!(check_variables(&others), Ok(()));
}

#[test]
fn a_long_value_is_not_repeated_whole() {
    let error = check("STEADING_ACCEL", &"\x1b".repeat(100_000).into()).unwrap_err().to_string();
    assert!(error.len() < 1000 && !error.contains('\x1b'), "{error}");
}
