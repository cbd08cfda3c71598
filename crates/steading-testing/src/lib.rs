//! Tests of a program as a whole wait for processes and their ends, look for what is left of them,
//! read terminals, and send frames as guests do. Here that is done once, for the tests of all packages. Nothing else uses it.

#![forbid(unsafe_code)]

pub mod arena;
pub mod frames;
pub mod process;
pub mod terminal;
