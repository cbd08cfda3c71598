//! Tests of a program as a whole wait for processes and their ends, look for what is left of them,
//! and read terminals. Here that is done once, for the tests of all packages. Nothing else uses it.

#![forbid(unsafe_code)]

pub mod arena;
pub mod process;
pub mod terminal;
