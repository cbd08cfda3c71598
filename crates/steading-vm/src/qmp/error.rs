//! What can go wrong between QEMU and us.

use std::fmt;
use std::io;

use thiserror::Error;

/// The class of an error that QEMU reports (`QapiErrorClass` in `qapi/error.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QmpErrorClass {
    /// Nothing more is said than the description.
    Generic,
    /// QEMU has no such command.
    CommandNotFound,
    /// The device is not in use.
    DeviceNotActive,
    /// There is no such device.
    DeviceNotFound,
    /// KVM lacks a capability.
    KvmMissingCap,
    /// One that this program does not know.
    Other(String),
}

impl From<&str> for QmpErrorClass {
    fn from(name: &str) -> Self {
        match name {
            "GenericError" => Self::Generic,
            "CommandNotFound" => Self::CommandNotFound,
            "DeviceNotActive" => Self::DeviceNotActive,
            "DeviceNotFound" => Self::DeviceNotFound,
            "KVMMissingCap" => Self::KvmMissingCap,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl QmpErrorClass {
    fn hint(&self) -> &'static str {
        match self {
            Self::CommandNotFound => "\nhint: this QEMU is older than 7.2, or was built without it",
            _ => "",
        }
    }
}

impl fmt::Display for QmpErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::KvmMissingCap => "KVMMissingCap",
            Self::Other(name) => name,
        })
    }
}

/// Why a command did not do what it was to do, or why QMP came to an end.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU refused or failed.
    #[error("QEMU failed to `{command}` ({class}): {description}{}", .class.hint())]
    Command {
        /// The command.
        command: String,
        /// The class of the error.
        class: QmpErrorClass,
        /// QEMU's words.
        description: String,
    },
    /// QEMU ended, or closed the connection, before it answered.
    #[error(
        "QEMU ended before it answered `{command}`\nhint: the end of its error output and of the VM's console say why"
    )]
    Closed {
        /// The command that waited.
        command: String,
    },
    /// It ended before it greeted.
    #[error(
        "QEMU ended before it greeted\nhint: it did not like its command line, or could not open a file; see its error output"
    )]
    NoGreeting,
    /// What it said first is no greeting.
    #[error("what QEMU said is no QMP greeting: {shown}\nhint: is this monitor in mode=control?")]
    Greeting {
        /// The beginning of what it said.
        shown: String,
    },
    /// What it answered is not what the command promises.
    #[error("QEMU answered `{command}` with something else than it promises: {shown}")]
    Answer {
        /// The command.
        command: String,
        /// The beginning of the answer.
        shown: String,
    },
    /// It reports an error of no command that is known.
    #[error("QEMU did not understand what it was told: {description}")]
    NotUnderstood {
        /// QEMU's words.
        description: String,
    },
    /// It said what is no JSON.
    #[error("what QEMU said is no JSON: {shown}")]
    Malformed {
        /// The beginning of it.
        shown: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// It said too much at once.
    #[error("QEMU said more than {limit} bytes in one message")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The connection broke.
    #[error("the connection to QEMU broke")]
    Broken(#[source] io::Error),
}

impl QmpError {
    /// Whether it says that QEMU is gone.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::NoGreeting | Self::Broken(_))
    }
}

/// The beginning of `text`, for an error message.
pub(crate) fn beginning(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
