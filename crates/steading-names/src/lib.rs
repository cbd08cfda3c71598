//! Names and certificates of a group: the DNS server that answers from its table, the authority that
//! certifies its names, and the ACME server by which programs fetch their certificates themselves.

#![forbid(unsafe_code)]

pub mod acme;
mod answer;
mod authority;
mod connections;
mod dns;
mod random;

pub use answer::{DnsTransport, answer};
pub use authority::{Authority, AuthorityError, AuthorityKey, Issued};
pub use dns::{DNS_PORT, DnsListener, SharedZone};
