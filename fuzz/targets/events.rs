//! The target `events` under libFuzzer: `cargo xtask fuzz events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::events::check(bytes));
