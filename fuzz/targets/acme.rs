//! The target `acme` under libFuzzer: `cargo xtask fuzz acme`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::acme::check(bytes));
