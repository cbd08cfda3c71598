//! Names that people choose, and the interface names derived from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Sha256;

/// The longest label of a domain name, in bytes (RFC 1035, section 2.3.4).
pub const LABEL_MAX: usize = 63;

/// The longest interface name, in bytes (`IFNAMSIZ` in `linux/if.h`, less the closing NUL).
pub const IFNAME_MAX: usize = 15;

/// Why a text cannot be a name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing at all.
    #[error("a {kind} name is empty\nhint: use 1 to {LABEL_MAX} of a-z, 0-9 and '-'")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// Longer than a DNS label.
    #[error(
        "the {kind} name \"{shown}…\" has {length} characters, more than {LABEL_MAX}\nhint: it becomes a DNS label (RFC 1035); shorten it"
    )]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// The beginning of the name.
        shown: String,
        /// How many characters it has.
        length: usize,
    },
    /// A character outside a-z, 0-9 and the hyphen, or a hyphen at an end.
    #[error(
        "the {kind} name {name:?} has {character:?} at position {position}\nhint: use 1 to {LABEL_MAX} of a-z, 0-9 and '-', with no '-' at either end (RFC 1123)"
    )]
    Character {
        /// What was to be named.
        kind: &'static str,
        /// The name.
        name: String,
        /// What it must not contain there.
        character: char,
        /// Where, counted in characters from 1.
        position: usize,
    },
}

fn check_label(kind: &'static str, text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 {
        return Err(NameError::Empty { kind });
    }
    if length > LABEL_MAX {
        return Err(NameError::TooLong { kind, shown: text.chars().take(20).collect(), length });
    }
    for (index, character) in text.chars().enumerate() {
        let inner = character.is_ascii_lowercase() || character.is_ascii_digit();
        let hyphen = character == '-' && index > 0 && index + 1 < length;
        if !inner && !hyphen {
            return Err(NameError::Character { kind, name: text.to_owned(), character, position: index + 1 });
        }
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

label!(
    /// The name of a group: a DNS label, since it becomes part of the group's domain.
    GroupName,
    "group"
);
label!(
    /// The name of a VM: a DNS label, since it becomes the guest's host name.
    VmName,
    "VM"
);

/// The name of a network interface on the host: at most 15 bytes by construction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// A text that the kernel would not take for an interface's name (`dev_valid_name` in `net/core/dev.c`).
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no interface name: 1 to {IFNAME_MAX} bytes without '/', ':' or white space are wanted")]
pub struct ParseIfNameError(String);

impl TryFrom<String> for IfName {
    type Error = ParseIfNameError;

    fn try_from(text: String) -> Result<Self, ParseIfNameError> {
        let fits = (1..=IFNAME_MAX).contains(&text.len()) && text != "." && text != "..";
        if fits && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
            Ok(Self(text))
        } else {
            Err(ParseIfNameError(text.chars().take(40).collect()))
        }
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl IfName {
    /// The group's bridge: `vbr-` and ten digits of SHA-256(group).
    pub fn bridge(group: &GroupName) -> Self {
        Self::derived("vbr-", group.as_str())
    }

    /// The TAP of a VM's first card: `tap-` and ten digits of SHA-256(group/vm).
    pub fn tap(group: &GroupName, vm: &VmName) -> Self {
        Self::derived("tap-", &format!("{group}/{vm}"))
    }

    /// The TAP of a VM's second card: `ta4-` and ten digits of SHA-256(ipv4/group/vm).
    pub fn second_tap(group: &GroupName, vm: &VmName) -> Self {
        Self::derived("ta4-", &format!("ipv4/{group}/{vm}"))
    }

    /// An interface of the relay between a TAP and the bridge.
    pub(crate) fn wire(prefix: &str, tap: &Self) -> Self {
        Self::derived(prefix, tap.as_str())
    }

    fn derived(prefix: &str, seed: &str) -> Self {
        const DIGITS: usize = 10;
        let name = format!("{prefix}{}", Sha256::of(seed).hex_prefix(DIGITS));
        debug_assert!(name.len() <= IFNAME_MAX);
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
