//! The names of engines: what runs the VMs of a group.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who starts and ends the QEMU processes of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The group's owner, which speaks QMP with each.
    #[default]
    Qemu,
    /// A libvirt session daemon of the group's own.
    Libvirt,
    /// The group's owner itself, which simulates them by scripts.
    Simulated,
}

/// A word that names no engine.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown engine {0:?} (expected {names})", names = names())]
pub struct ParseEngineError(String);

/// The names of all engines, for people.
fn names() -> String {
    let [others @ .., last] = Engine::NAMES;
    format!("{} or {last}", others.join(", "))
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Libvirt, Self::Simulated];

    /// The names of all, in the same order.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Libvirt => "libvirt",
            Self::Simulated => "simulated",
        }
    }

    /// For serde: whether it is the one that is used unless another is asked for.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Engine {
    type Err = ParseEngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.as_str() == text)
            .ok_or_else(|| ParseEngineError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for engine in Engine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        let error = "xen".parse::<Engine>().expect_err("none");
        assert!(error.to_string().contains("qemu, libvirt or simulated"), "{error}");
    }
}
