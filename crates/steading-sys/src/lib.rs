//! The system boundary: the only crate of the project with `unsafe` code, and the only place where
//! processes are started.

#![expect(unsafe_code, reason = "this crate is where unsafe code lives")]

pub mod capability;
pub mod growth;
pub mod namespace;
pub mod process;
pub mod search;
pub mod signal;
mod start_error;
pub mod sysctl;
pub mod tap;
pub mod tsc;
