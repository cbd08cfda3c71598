//! The target `console` under libFuzzer: `cargo xtask fuzz console`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::console::check(bytes));
