//! Makes a group's network: the bridge, its addresses and routes, the TAPs as its ports, and faults
//! between them.
//!
//! Everything goes by netlink (rtnetlink(7), and nftables' own messages) in the network namespace of the caller. Nothing is
//! removed in code: the kernel takes it all along with the namespace.

#![forbid(unsafe_code)]

mod bridge;
mod error;
mod nft_message;
mod nftables;

pub use bridge::Network;
pub use error::NetError;
pub use nftables::{probe_rules, replace_rules};
