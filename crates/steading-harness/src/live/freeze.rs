//! The commands `freeze` and `thaw`.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use steading_api::FreezeRequest;
use steading_report::output::{Stderr, Stdout};

use crate::exit_code;
use crate::groups::LiveGroup;
use crate::limit::limit;

/// Arguments of `freeze`.
#[derive(Args, Clone, Debug)]
pub struct FreezeArgs {
    /// Name of the freeze [default: a new one].
    id: Option<String>,
    /// Keep the group frozen until `thaw`.
    #[arg(long)]
    stay: bool,
    /// First wait until the guests are idle, at most this long (5s). Each fork repeats what guests were about
    /// to do.
    #[arg(long, value_name = "TIME", value_parser = limit)]
    settle: Option<Duration>,
    /// List the freezes of the group; freeze nothing.
    #[arg(long, conflicts_with_all = ["id", "stay", "settle", "forget"])]
    list: bool,
    /// Delete the freeze. Running forks of it are not affected.
    #[arg(long, requires = "id", conflicts_with_all = ["stay", "settle"])]
    forget: bool,
}

pub(crate) async fn freeze(group: &LiveGroup, args: &FreezeArgs) -> anyhow::Result<u8> {
    let mut out = Stdout;
    if args.list {
        for freeze in group.client.freezes().await? {
            writeln!(out, "{:<16} {:>8.1} MiB", freeze.id, mib(freeze.bytes))?;
        }
        return Ok(exit_code::PASSED);
    }
    if let (true, Some(id)) = (args.forget, &args.id) {
        group.client.forget(id).await?;
        return Ok(exit_code::PASSED);
    }
    let request = FreezeRequest { id: args.id.clone(), stay: args.stay, ..FreezeRequest::default() };
    let request = request.settled_within(args.settle.unwrap_or_default());
    let freeze = group.client.freeze(&request).await?;
    let stood = freeze.stood_seconds.map(|stood| format!("; paused for {stood:.3} s"));
    writeln!(out, "{}", freeze.id)?;
    let (seconds, mib) = (freeze.kept_seconds, mib(freeze.bytes));
    let said = format!("frozen in {seconds:.3} s, {mib:.1} MiB{}", stood.unwrap_or_default());
    writeln!(Stderr, "{said}")?;
    Ok(exit_code::PASSED)
}

pub(crate) async fn thaw(group: &LiveGroup) -> anyhow::Result<u8> {
    group.client.thaw().await?;
    Ok(exit_code::PASSED)
}

#[expect(clippy::cast_precision_loss, reason = "to one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
