//! The options of a run on the command line.

use clap::Args;

use crate::up_args::{GraceArgs, UpArgs};

#[derive(Args, Clone, Default)]
pub(crate) struct RunArgs {
    /// Run only tests whose name contains one of these strings.
    pub(crate) filter: Vec<String>,
    /// Match whole names instead of parts.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Skip tests whose name contains this; can be repeated.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// Run only ignored tests.
    #[arg(long)]
    pub(crate) ignored: bool,
    /// Run ignored tests, too.
    #[arg(long, conflicts_with = "ignored")]
    pub(crate) include_ignored: bool,
    /// Number of functions that run at the same time in parallel sections [default: all].
    #[arg(long, short, alias = "test-threads", value_name = "N", value_parser = count)]
    pub(crate) jobs: Option<usize>,
    /// Number of forks that run at the same time, for tests that get a fork each [default: by CPUs and
    /// memory].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) forks: Option<u32>,
    /// Make no forks: a test that asks for one is skipped, or gets a freshly booted testnet, as the suite
    /// declares.
    #[arg(long, conflicts_with = "forks")]
    pub(crate) no_forks: bool,
    /// Number of retries of each failed test; a test can declare more.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,
    /// Start no test after the first failure.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// When a function fails, freeze its testnet. After the run, the first frozen testnet is written to
    /// failure.steading in the log directory, for `steading resume`. Anyone who can read this file can log
    /// in to the guests.
    #[arg(long)]
    pub(crate) freeze_on_failure: bool,
    /// Write this file without disk images; to open it, a host must have the same images.
    #[arg(long, requires = "freeze_on_failure")]
    pub(crate) without_images: bool,
    /// Regular expression that a line of the log must match, in addition to the rules of the suite; can
    /// be repeated.
    #[arg(long, value_name = "REGEX")]
    pub(crate) log_require: Vec<String>,
    /// Regular expression that no line of the log may match; can be repeated.
    #[arg(long, value_name = "REGEX")]
    pub(crate) log_forbid: Vec<String>,
    /// A filter that matches no test selects none, and that is no error.
    #[arg(skip)]
    pub(crate) may_match_none: bool,
    /// The part of the tests that is run.
    #[arg(skip)]
    pub(crate) shard: Option<Shard>,
    /// Keep the testnet after the tests until Ctrl-C.
    #[arg(long)]
    pub(crate) keepalive: bool,
    #[command(flatten)]
    pub(crate) grace: GraceArgs,
    #[command(flatten)]
    pub(crate) up: UpArgs,
    /// Of all commands; put here from there.
    #[arg(skip)]
    pub(crate) group: Option<String>,
}

/// A number of things that run at once. With none, nothing would ever run.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("expected an integer: {error}")),
    }
}

/// One of several parts of the tests, for those who divide them among processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) total: usize,
}
