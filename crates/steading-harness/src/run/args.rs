//! What may be asked of a run on the command line.

use clap::Args;

use crate::up_args::{GraceArgs, UpArgs};

#[derive(Args, Clone, Default)]
pub(crate) struct RunArgs {
    /// Run only tests whose name contains one of these.
    pub(crate) filter: Vec<String>,
    /// Names must be equal to a filter, not contain it.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Leave out tests whose name contains this; may be given more than once.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// Run only tests that are declared as ignored.
    #[arg(long)]
    pub(crate) ignored: bool,
    /// Run tests that are declared as ignored, too.
    #[arg(long, conflicts_with = "ignored")]
    pub(crate) include_ignored: bool,
    /// How many functions may run at once in parallel sections [default: as many as there are].
    #[arg(long, short, alias = "test-threads", value_name = "N", value_parser = count)]
    pub(crate) jobs: Option<usize>,
    /// How many forks of the testnet may run at once, for tests that get one each [default: by CPUs
    /// and memory].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) forks: Option<u32>,
    /// Make no forks: tests that ask for one are skipped, or get a testnet that is booted anew, as they
    /// have chosen.
    #[arg(long, conflicts_with = "forks")]
    pub(crate) no_forks: bool,
    /// How often each test that fails is tried again, at least.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,
    /// After the first test that fails, begin no other.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// When a function fails, freeze its testnet at that moment; after the run, the first that was
    /// frozen is written to the file failure.steading in the directory of the logs, for `steading
    /// resume`. Whoever may read it may log in to the guests.
    #[arg(long)]
    pub(crate) freeze_on_failure: bool,
    /// Write that file without the images of the VMs' disks: it can be opened only where they are.
    #[arg(long, requires = "freeze_on_failure")]
    pub(crate) without_images: bool,
    /// A pattern (a regular expression) that some line of the log must match, beside the suite's own;
    /// may be given more than once.
    #[arg(long, value_name = "REGEX")]
    pub(crate) log_require: Vec<String>,
    /// A pattern that no line of the log may match; may be given more than once.
    #[arg(long, value_name = "REGEX")]
    pub(crate) log_forbid: Vec<String>,
    /// A filter that matches no test selects none, and that is no error.
    #[arg(skip)]
    pub(crate) may_match_none: bool,
    /// The part of the tests that is run.
    #[arg(skip)]
    pub(crate) shard: Option<Shard>,
    /// Keep the testnet up after the tests, until Ctrl-C.
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
