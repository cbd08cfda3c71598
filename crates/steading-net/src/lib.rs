//! Makes a group's network: the bridge, its addresses and routes, the TAPs as its ports, and faults
//! between them.
//!
//! Everything goes by netlink (rtnetlink(7), and nftables' own messages) in the network namespace of the caller. Nothing is
//! removed in code: the kernel takes it all along with the namespace.
//!
//! Messages of nftables are written here. `nftables` runs the program `nft`, `nftnl` needs a library in C,
//! and `rustables` is under the GPL; `nf_tables` (0.1) and `netlink-packet-netfilter` (0.4) do not know
//! `numgen`, by which frames are lost at random.

#![forbid(unsafe_code)]

mod bridge;
mod error;
mod nft_message;
mod nftables;

pub use bridge::Network;
pub use error::NetError;
pub use nftables::{probe_rules, replace_rules};
