//! The target `testnet` under libFuzzer: `cargo xtask fuzz testnet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::testnet::check(bytes));
