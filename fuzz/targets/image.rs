//! The target `image` under libFuzzer: `cargo xtask fuzz image`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steading_fuzz::image::check(bytes));
