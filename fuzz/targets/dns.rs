//! The target `dns` under libFuzzer: `cargo xtask fuzz dns`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::dns::check(bytes));
