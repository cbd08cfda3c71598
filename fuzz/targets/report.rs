//! The target `report` under libFuzzer: `cargo xtask fuzz report`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::report::check(bytes));
