//! Tells guests the time by NTP (RFC 5905), from the clock of this machine: there is no network on which
//! they could ask anybody else.

#![forbid(unsafe_code)]

mod packet;
mod server;

pub use packet::{LENGTH, Timestamp, answer};
pub use server::TimeServer;

/// The UDP port of NTP.
pub const NTP_PORT: u16 = 123;
