//! The event loop of commands, which run one future to its end.

use anyhow::Context as _;
use tokio::runtime::Runtime;

fn event_loop() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Runs a future to its end on an event loop of its own.
pub(crate) fn wait_for<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = event_loop()?;
    let outcome = runtime.block_on(future);
    // A task may still be waiting for a key.
    runtime.shutdown_background();
    outcome
}
