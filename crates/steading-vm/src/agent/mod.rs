//! Acting inside a guest without its network: a client of the QEMU guest agent.
//!
//! The agent is a program in the guest that listens on a virtio serial port. It serves where ssh
//! cannot: before the network is up, with a firewall that is under test, or to set the clock of a
//! guest that woke from a freeze. The port has no notion of a connection. What was asked before a
//! reboot may be answered after it, and where no agent runs, nobody answers at all; so every
//! exchange begins on a channel that is known to be in step, and has a limit of time.
//! Reference: `qga/qapi-schema.json` in QEMU's sources.

mod channel;
mod error;
mod exec;
mod file;
mod guest;

pub use channel::GuestAgent;
pub use error::AgentError;
pub use exec::{AgentCommand, AgentOutput};
pub use guest::{GuestAddress, GuestInterface, ShutdownMode};
