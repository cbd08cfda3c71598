//! Registers and runs test functions, each in a process of its own.
