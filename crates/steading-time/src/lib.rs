//! Tells guests the time by NTP (RFC 5905), from the clock of this machine: there is no network on which
//! they could ask anybody else.
//!
//! No crate is used for that. Those for NTP (`ntp-proto`, `ntp_usg-server`) discipline clocks and keep
//! tables of clients; all that is needed here is one answer of 48 bytes, as a pure function of the request
//! and the time.

#![forbid(unsafe_code)]

mod packet;
mod server;

pub use packet::{LENGTH, Timestamp, answer};
pub use server::TimeServer;

/// The UDP port of NTP.
pub const NTP_PORT: u16 = 123;
