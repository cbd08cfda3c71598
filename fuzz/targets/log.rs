//! The target `log` under libFuzzer: `cargo xtask fuzz log`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::log::check(bytes));
