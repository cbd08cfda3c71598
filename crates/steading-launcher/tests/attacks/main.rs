//! The launcher on a host where it alone has capabilities: what it makes, for whom, and what it refuses.
//!
//! Each test runs in a network namespace of its own, whose user can make no other.

mod making;
mod refusing;
mod support;
