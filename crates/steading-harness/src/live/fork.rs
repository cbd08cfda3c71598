//! The command `fork`: a group that starts where another was frozen.

use camino::Utf8PathBuf;
use clap::Args;
use steading_api::FreezeRequest;
use steading_report::Report;

use crate::bring_up::{bring_up_frozen, default_log_dir};
use crate::broker::{BrokerOptions, Copies, Reservation};
use crate::ending::fail;
use crate::event_loop::wait_for;
use crate::frozen::{ClockArg, open};
use crate::groups::LiveGroup;
use crate::run;
use crate::up_args::GraceArgs;

/// Arguments of `fork`.
#[derive(Args, Clone, Debug)]
pub struct ForkArgs {
    /// Freeze to fork from [default: freeze the group now].
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// Time that guests' clocks show.
    #[arg(long, value_enum, value_name = "TIME", default_value_t)]
    clock: ClockArg,
    /// Log directory [default: out/GROUP/TIME].
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    broker: BrokerOptions,
    /// Program to run in the fork, which is torn down afterwards (see `run`). Without a program, the fork
    /// stays up until Ctrl-C or `down`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Forks a running group, and stays up or runs a program.
pub(crate) fn fork(group: &LiveGroup, args: &ForkArgs) -> anyhow::Result<u8> {
    let report = Report::new();
    let id = match &args.from {
        Some(id) => id.clone(),
        None => wait_for(async { Ok(group.client.freeze(&FreezeRequest::default()).await?.id) })?,
    };
    let log_dir = args.out.clone().unwrap_or_else(|| default_log_dir(group.name()));
    let opened = wait_for(open(&group.client, &id))?;
    let room = Reservation::Broker(&args.broker, Copies::One);
    let up = match bring_up_frozen(opened, &log_dir, args.clock.into(), room, &report) {
        Ok(up) => up,
        Err((code, error)) => return Ok(fail(&report, code, &error)),
    };
    Ok(if args.command.is_empty() {
        run::stay(group.name(), up, &report)
    } else {
        run::command_in(up, args.grace.grace, &args.command, &report)
    })
}
