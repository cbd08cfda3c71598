//! The target `launch` under libFuzzer: `cargo xtask fuzz launch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::launch::check(bytes));
