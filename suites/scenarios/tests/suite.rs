//! A suite as a test target with `harness = false`: `cargo test` and nextest list and run its tests.

use std::process::ExitCode;

use anyhow::ensure;
use steading::{Suite, TestOptions};

fn main() -> ExitCode {
    Suite::new("as-a-test-target")
        .setup(|testnet| testnet.put("set up", &true))
        .test("finds_what_setup_has_left", |testnet| {
            ensure!(testnet.get::<bool>("set up")?);
            Ok(())
        })
        .test_with("is_asked_for_by_name_only", TestOptions::new().ignored("only by --ignored"), |_| Ok(()))
        .parallel("side", |side| {
            side.test("left", |testnet| testnet.put("left", &1))
                .test("right", |testnet| testnet.put("right", &2))
        })
        .main()
}
