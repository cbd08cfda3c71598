//! What each environment variable may hold, and the one reader of them all.
//!
//! A variable that is misspelt in its value must not be ignored: the user would believe that it is
//! honoured. So each has an entry in [`VARIABLES`], programs check all of them before anything starts,
//! and every later read goes through the same entry.

use std::ffi::OsString;
use std::fmt;

use thiserror::Error;

use crate::DeclaredVms;
use crate::engine::Engine;
use crate::env_vars as name;
use crate::text::Shown;

/// The values that a variable takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// Any bytes. What they mean is decided by others.
    Anything,
    /// Any text.
    Text,
    /// A path, in UTF-8.
    Path,
    /// Off with `0`, `false`, `no`, `off`, `n` and `f`; on with anything else.
    Switch,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An integer in this range.
    Integer {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A number in this range.
    Number {
        /// The smallest.
        least: f64,
        /// The largest.
        most: f64,
    },
    /// VMs as JSON.
    DeclaredVms,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything | Self::Text | Self::Switch => f.write_str("text in UTF-8"),
            Self::Path => f.write_str("a path in UTF-8"),
            Self::OneOf(words) => write!(f, "one of `{}`", words.join("`, `")),
            Self::Integer { least, most: u64::MAX } => write!(f, "an integer of at least {least}"),
            Self::Integer { least, most } => write!(f, "an integer from {least} to {most}"),
            Self::Number { least, most } => write!(f, "a number from {least} to {most}"),
            Self::DeclaredVms => {
                f.write_str("VMs as JSON, such as `{\"n1\":{\"memory_mib\":512,\"vcpus\":1}}`")
            }
        }
    }
}

/// A variable that is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub expected: Expected,
    /// Whether it is read under Bazel only, which sets `TEST_SRCDIR`: other tools may use its name for something
    /// else.
    pub of_bazel: bool,
}

const fn variable(name: &'static str, expected: Expected) -> Variable {
    Variable { name, expected, of_bazel: false }
}

const fn of_bazel(name: &'static str, expected: Expected) -> Variable {
    Variable { name, expected, of_bazel: true }
}

/// More than this makes no bytes of it, in MiB.
const MIB_MAX: u64 = u64::MAX >> 20;

/// The longest time limit, in seconds: some 100 years.
const SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;

/// Parts of the tests; more than anybody has.
const SHARDS_MAX: u64 = 1 << 20;

/// Every variable that is read and has one name, in the order of `env_vars.rs`.
pub const VARIABLES: &[Variable] = &[
    variable(name::STEADING_ACCEL, Expected::OneOf(&["kvm", "tcg"])),
    variable(name::STEADING_ENGINE, Expected::OneOf(&Engine::NAMES)),
    variable(name::STEADING_CACHE_DIR, Expected::Path),
    variable(name::STEADING_SCRATCH_DIR, Expected::Path),
    variable(name::STEADING_GUEST, Expected::Path),
    variable(name::STEADING_UPGRADABLE_GUEST, Expected::Path),
    variable(name::STEADING_UNIVERSAL_GUEST, Expected::Path),
    variable(name::STEADING_HOST_GUEST, Expected::Path),
    variable(name::STEADING_ISOLATION, Expected::OneOf(&["auto", "namespaces", "launcher"])),
    variable(name::STEADING_LAUNCHER, Expected::Path),
    variable(name::STEADING_WARM_MIB, Expected::Integer { least: 0, most: MIB_MAX }),
    variable(name::STEADING_WARM, Expected::Switch),
    variable(name::STEADING_TIMEOUT_FACTOR, Expected::Number { least: 0.001, most: 1000.0 }),
    variable(name::STEADING_BROKER_DIR, Expected::Path),
    variable(name::STEADING_BROKER_CPUS, Expected::Integer { least: 1, most: u64::MAX }),
    variable(name::STEADING_BROKER_MEMORY_MIB, Expected::Integer { least: 1, most: MIB_MAX }),
    variable(name::STEADING_OVERSUBSCRIPTION, Expected::Integer { least: 1, most: u64::MAX }),
    variable(name::STEADING_NO_BROKER, Expected::Switch),
    variable(name::STEADING_DECLARED_VMS, Expected::DeclaredVms),
    variable(name::TEST_SRCDIR, Expected::Anything),
    of_bazel(name::TEST_TIMEOUT, Expected::Integer { least: 1, most: SECONDS_MAX }),
    variable(name::TEST_TMPDIR, Expected::Path),
    of_bazel(name::TESTBRIDGE_TEST_ONLY, Expected::Text),
    of_bazel(name::TESTBRIDGE_TEST_RUNNER_FAIL_FAST, Expected::OneOf(&["0", "1"])),
    of_bazel(name::TEST_TOTAL_SHARDS, Expected::Integer { least: 0, most: SHARDS_MAX }),
    of_bazel(name::TEST_SHARD_INDEX, Expected::Integer { least: 0, most: SHARDS_MAX }),
    of_bazel(name::TEST_SHARD_STATUS_FILE, Expected::Path),
    of_bazel(name::TEST_PREMATURE_EXIT_FILE, Expected::Path),
    variable(name::TEST_UNDECLARED_OUTPUTS_DIR, Expected::Path),
    variable(name::XML_OUTPUT_FILE, Expected::Path),
    variable(name::XDG_CACHE_HOME, Expected::Anything),
    variable(name::HOME, Expected::Anything),
    variable(name::XDG_RUNTIME_DIR, Expected::Anything),
    variable(name::PATH, Expected::Anything),
    variable(name::TERM, Expected::Anything),
    variable(name::NO_COLOR, Expected::Anything),
    variable(name::CLICOLOR_FORCE, Expected::Anything),
    variable(name::STEADING_SOCKET, Expected::Path),
    variable(name::STEADING_ATTEMPT, Expected::Integer { least: 1, most: u32::MAX as u64 }),
];

/// A variable with a value that it does not take.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{variable} is {value}: expected {expected}{why}\nhint: correct the variable, or unset it")]
pub struct VariableError {
    variable: &'static str,
    value: String,
    expected: String,
    /// Empty, or more about what is wrong.
    why: String,
}

/// The values of variables; nothing for one that is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Refuses an environment in which a variable has a value that it does not take.
///
/// # Errors
///
/// The first such variable, in the order of [`VARIABLES`].
pub fn check_variables(environment: Environment<'_>) -> Result<(), VariableError> {
    let is_bazel = environment(name::TEST_SRCDIR).is_some_and(|value| !value.is_empty());
    let mut read = VARIABLES.iter().filter(|variable| is_bazel || !variable.of_bazel);
    read.try_for_each(|variable| variable.text(environment).map(drop))
}

/// The text of a variable; none if it is empty or not set.
///
/// # Errors
///
/// When it has a value that it does not take.
pub fn text_variable(name: &str, environment: Environment<'_>) -> Result<Option<String>, VariableError> {
    entry(name).text(environment)
}

/// The integer in a variable; none if it is empty or not set.
///
/// # Errors
///
/// When it has a value that it does not take.
pub fn integer_variable(name: &str, environment: Environment<'_>) -> Result<Option<u64>, VariableError> {
    let text = entry(name).text(environment)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// The number in a variable; none if it is empty or not set.
///
/// # Errors
///
/// When it has a value that it does not take.
pub fn number_variable(name: &str, environment: Environment<'_>) -> Result<Option<f64>, VariableError> {
    let text = entry(name).text(environment)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

fn entry(name: &str) -> Variable {
    let found = VARIABLES.iter().find(|variable| variable.name == name).copied();
    // The test of this table has all names.
    found.unwrap_or_else(|| unreachable!("{name} is missing in the table of variables"))
}

impl Variable {
    /// Its text, if it is one that it takes; none if it is empty or not set.
    fn text(self, environment: Environment<'_>) -> Result<Option<String>, VariableError> {
        let Some(value) = environment(self.name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let text = match value.into_string() {
            Ok(text) => text,
            Err(value) if self.expected == Expected::Anything => {
                return Ok(Some(value.to_string_lossy().into_owned()));
            }
            Err(value) => return Err(self.error(&value.to_string_lossy(), String::new())),
        };
        match self.reject(&text) {
            None => Ok(Some(text)),
            Some(why) => Err(self.error(&text, why)),
        }
    }

    /// Why it does not take this text, which may be nothing more than that; none if it does.
    fn reject(self, text: &str) -> Option<String> {
        let word = text.trim();
        let fits = match self.expected {
            Expected::Anything | Expected::Text | Expected::Path | Expected::Switch => true,
            Expected::OneOf(words) => words.contains(&text),
            Expected::Integer { least, most } => {
                word.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number))
            }
            // NaN is in no range.
            Expected::Number { least, most } => {
                word.parse::<f64>().is_ok_and(|number| (least..=most).contains(&number))
            }
            Expected::DeclaredVms => {
                return DeclaredVms::parse(text).err().map(|error| format!(": {}", error.reason()));
            }
        };
        (!fits).then(String::new)
    }

    fn error(self, value: &str, why: String) -> VariableError {
        let value = Shown(value).to_string();
        VariableError { variable: self.name, value, expected: self.expected.to_string(), why }
    }
}

#[cfg(test)]
#[path = "variable_tests.rs"]
mod tests;
