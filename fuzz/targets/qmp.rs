//! The target `qmp` under libFuzzer: `cargo xtask fuzz qmp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::qmp::check(bytes));
