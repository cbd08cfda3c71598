//! Registers and runs test functions, each in a process of its own inside the testnet.

#![forbid(unsafe_code)]

mod backoff;
mod cli;
mod context;
pub mod exit_code;
mod function;
pub mod prepare;
mod run;
mod ssh;
mod suite;
mod vm;

pub use context::Context;
pub use run::chain;
pub use suite::Suite;
pub use vm::Vm;
