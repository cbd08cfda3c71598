//! What is kept of a frozen group: how it is opened, and what guests' clocks show when they go on from it.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use clap::ValueEnum;
use steading_api::Client;
use steading_group::stored::Archive;
use steading_group::{Clock, FrozenGroup, OpenedGroup};

/// How long guests may take to come to rest before they are frozen for many forks.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// What guests' clocks show when they go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockArg {
    /// The host's time, to which guests are set when they go on.
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

/// Opens what the owner behind this client keeps as `id`. Its files are open in the owner's process,
/// beside the directory of its socket.
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

/// The name of the file that is written for a run.
pub(crate) fn file_name() -> String {
    format!("failure.{}", Archive::EXTENSION)
}
