//! Freezes of groups: how they are opened, and the time that guests' clocks show afterwards.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use clap::ValueEnum;
use steading_api::Client;
use steading_group::stored::Archive;
use steading_group::{Clock, FrozenGroup, OpenedGroup};

/// How long guests can take to become idle before they are frozen for many forks.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// The time that guests' clocks show after a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockArg {
    /// The host's time.
    #[default]
    Host,
    /// The time at which they were frozen.
    Still,
}

impl From<ClockArg> for Clock {
    fn from(clock: ClockArg) -> Self {
        match clock {
            ClockArg::Host => Self::Host,
            ClockArg::Still => Self::Still,
        }
    }
}

/// Opens the freeze `id` of the group behind this client. Its files are open in the owner's process, next to the
/// directory of its socket.
pub(crate) async fn open(client: &Client, id: &str) -> anyhow::Result<OpenedGroup> {
    let description: FrozenGroup = serde_json::from_value(client.frozen(id).await?)
        .context("the freeze was made by another version of Steading")?;
    let socket = client.endpoint().local_path().map(Utf8Path::new);
    let files = socket.and_then(Utf8Path::parent).and_then(Utf8Path::parent);
    let files = files.with_context(|| {
        format!(
            "the files of the frozen group are on another machine, at {}\nhint: `freeze --to FILE` there, and `resume` here",
            client.endpoint()
        )
    })?;
    Ok(OpenedGroup::open(description, files)?)
}

/// The name of the file for the testnet of a failure.
pub(crate) fn file_name() -> String {
    format!("failure.{}", Archive::EXTENSION)
}
