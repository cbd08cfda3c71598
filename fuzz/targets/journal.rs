//! The target `journal` under libFuzzer: `cargo xtask fuzz journal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::journal::check(bytes));
