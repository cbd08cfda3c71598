//! What can go wrong between a guest's agent and us.

use std::time::Duration;

use thiserror::Error;

use crate::qmp::QmpErrorClass;

/// Why the guest agent did not do what it was to do.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Nobody answered in time.
    #[error(
        "the guest agent did not answer `{command}` within {} s\nhint: is qemu-guest-agent installed and started in the guest, and has the guest booted so far?",
        .limit.as_secs_f32()
    )]
    NoAnswer {
        /// What it was asked.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// The agent refused or failed.
    #[error("the guest agent failed to `{command}` ({class}): {description}{}", hint(.class))]
    Command {
        /// The command.
        command: String,
        /// The class of the error.
        class: QmpErrorClass,
        /// The agent's words.
        description: String,
    },
    /// QEMU ended.
    #[error("the VM ended before its guest agent answered `{command}`")]
    Closed {
        /// What it was asked.
        command: String,
    },
    /// What it answered is not what the command promises, or is too long, or no JSON.
    #[error("the guest agent answered `{command}` with something else than it promises: {shown}")]
    Answer {
        /// The command.
        command: String,
        /// The beginning of the answer, or what is wrong with it.
        shown: String,
    },
    /// A program in the guest did not end in time. It runs on.
    #[error("`{program}` did not end in the guest within {} s", .limit.as_secs_f32())]
    StillRunning {
        /// The program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to the guest agent broke")]
    Broken(#[source] std::io::Error),
    /// The local side of a copy failed.
    #[error("cannot copy {direction} {path} in the guest")]
    Copy {
        /// `to` or `from`.
        direction: &'static str,
        /// The file in the guest.
        path: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

fn hint(class: &QmpErrorClass) -> &'static str {
    match class {
        QmpErrorClass::CommandNotFound => {
            "\nhint: the agent is too old, or its configuration forbids it (block-rpcs, formerly blacklist)"
        }
        _ => "",
    }
}
