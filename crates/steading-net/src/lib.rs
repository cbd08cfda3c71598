//! Makes a group's network: the bridge, its addresses and routes, and the TAPs as its ports.
//!
//! Everything goes by rtnetlink (rtnetlink(7)) in the network namespace of the caller. Nothing is
//! removed in code: the kernel takes it all along with the namespace.

#![forbid(unsafe_code)]

mod bridge;
mod error;

pub use bridge::Network;
pub use error::NetError;
