//! Reserves CPUs and memory for groups of unrelated processes, sandboxes and users of one machine,
//! first come, first served.
//!
//! There is no daemon. A group that wants to start puts a ticket into a directory: a file that it
//! holds locked. A ticket counts as long as its lock is held, and the kernel frees that with the last
//! process of its holder. See `docs/design/broker.md`.

#![forbid(unsafe_code)]

mod directory;
mod error;
mod limits;
mod peaks;
mod queue;
mod ticket;

pub use directory::Directory;
pub use error::BrokerError;
pub use limits::{Limits, Needs};
pub use peaks::{Measured, Peak, list as list_peaks, peak_of, record as record_peak};
pub use queue::{Lease, Queue, Stub, View, Waiting};
pub use ticket::{Request, Ticket};

/// The number at which the processes of a group have its lease open. They inherit it, so the lease
/// ends with the last of them.
pub const LEASE_FD: u32 = 910;
