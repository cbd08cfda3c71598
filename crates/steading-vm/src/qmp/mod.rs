//! Speaking with QEMU: a client of the QEMU Machine Protocol.
//!
//! QMP is how a running VM is steered and how it tells what happens to it; the rest of the crate
//! builds on two promises made here. An error that QEMU reports is an error of the call, never a
//! line in a log. And when QEMU ends, for whatever reason, everybody who waits for an answer learns
//! it at once.
//!
//! The client speaks over a connected socket, one end of a pair whose other end QEMU was given at
//! its start, so there is no path that could be too long or stay behind.
//! Reference: `docs/interop/qmp-spec.rst` and the QAPI schema in QEMU's sources.

mod client;
pub(crate) mod codec;
mod commands;
pub(crate) mod error;
mod event;

pub use client::{QemuVersion, Qmp, QmpDriver, QmpEvents};
pub use codec::{CodecError, MessageReader};
pub use commands::{RunState, Status};
pub use error::{QmpError, QmpErrorClass};
pub use event::{QmpEvent, StopCause, TimedEvent};
