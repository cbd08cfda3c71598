//! The target `files` under libFuzzer: `cargo xtask fuzz files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::files::check(bytes));
