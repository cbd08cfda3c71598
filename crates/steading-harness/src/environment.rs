//! The environment of this process, as the readers of variables take it.

use std::ffi::OsString;

/// The value of a variable in the environment of this process.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
