//! The system boundary: the only crate of the project with `unsafe` code, and the only place where
//! processes are started.

#![expect(unsafe_code, reason = "this crate is where unsafe code lives")]

pub mod capability;
pub mod exec;
pub mod mark;
pub mod stat;
pub mod sysctl;
pub mod tap;

#[cfg(feature = "driver")]
pub mod beside;
#[cfg(feature = "driver")]
pub mod inherited;
#[cfg(feature = "driver")]
pub mod namespace;
#[cfg(feature = "driver")]
pub mod process;
#[cfg(feature = "driver")]
pub mod processes;
#[cfg(feature = "driver")]
pub mod pty;
#[cfg(feature = "driver")]
pub mod ready;
#[cfg(feature = "driver")]
mod run_error;
#[cfg(feature = "driver")]
pub mod search;
#[cfg(feature = "driver")]
pub mod signal;
#[cfg(feature = "driver")]
mod start_error;
#[cfg(feature = "driver")]
pub mod tsc;
