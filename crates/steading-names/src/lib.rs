//! Names and certificates of a group: the DNS server that answers from its table, the authority that
//! certifies its names, and the ACME server by which programs fetch their certificates themselves.
//!
//! What is written here, and why no crate does it:
//!
//! - The DNS server. Messages are `hickory-proto`'s. `hickory-server` answers from zones of its own; here
//!   the plan's zone is the only one, and an answer is a pure function of it.
//! - The ACME server. Crates for ACME are clients, but for `acme-proxy`, a program with a database and an
//!   administration.
//! - Signatures of requests (JWS). ACME has them in the flattened JSON form; `jsonwebtoken` reads the
//!   compact one, and `josekit` needs OpenSSL. The cryptography is `ring`'s.

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
