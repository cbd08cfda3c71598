//! Processes that the runner starts to make and hold one fork each, or one testnet that is booted again. Whatever becomes
//! of the runner, the fork ends with its process.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde::{Deserialize, Serialize};
use steading_api::{Client, Endpoint, chain};
use steading_group::{Clock, WantedIsolation};
use steading_plan::Engine;
use steading_report::output::Stderr;
use steading_report::{Event, Report};
use steading_sys::process::end_with_parent;

use crate::bring_up::{BringUpOptions, RunningGroup, bring_up, bring_up_frozen};
use crate::broker::Reservation;
use crate::event_loop::wait_for;
use crate::exit_code;
use crate::frozen::open;
use crate::suite::Declared;
use crate::up_args::{EngineArgs, IsolationArgs};

/// Arguments of the process that makes and holds a fork.
#[derive(Args, Clone, Debug)]
pub(crate) struct HoldArgs {
    /// Where the owner of the group that was frozen listens.
    #[arg(long)]
    from: Endpoint,
    #[arg(long)]
    id: String,
    #[arg(long)]
    out: Utf8PathBuf,
    /// The runner; this process ends with it.
    #[arg(long)]
    parent: i32,
}

impl HoldArgs {
    /// The command line of such a process.
    pub(crate) fn argv(from: &Endpoint, id: &str, out: &Utf8Path) -> Vec<String> {
        let parent = std::process::id();
        [
            "__fork",
            "--from",
            &from.to_string(),
            "--id",
            id,
            "--out",
            out.as_str(),
            "--parent",
            &parent.to_string(),
        ]
        .map(str::to_owned)
        .into()
    }
}

/// Arguments of the process that boots and holds another testnet.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootArgs {
    /// The group's name.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    #[arg(long)]
    out: Utf8PathBuf,
    #[arg(long)]
    parent: i32,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    isolation: IsolationArgs,
}

impl BootArgs {
    /// The command line of such a process.
    pub(crate) fn argv(
        name: &str,
        engine: Engine,
        isolation: WantedIsolation,
        out: &Utf8Path,
    ) -> Vec<String> {
        let parent = std::process::id().to_string();
        let (engine, isolation, out) = (engine.as_str(), isolation.as_str(), out.as_str());
        let words =
            ["__boot", "--as", name, "--engine", engine, "--isolation", isolation, "--out", out, "--parent"];
        words.into_iter().chain([parent.as_str()]).map(str::to_owned).collect()
    }
}

/// Printed by such a process when its group is up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// Where the owner of the fork listens.
    pub(crate) endpoint: String,
}

/// Makes a fork, prints its owner, and holds it until its end.
pub(crate) fn hold(args: &HoldArgs, report: &Report) -> u8 {
    let made = || {
        end_with_parent(args.parent)?;
        let client = Client::new(args.from.clone());
        let opened = wait_for(open(&client, &args.id))?;
        // The runner has reserved what it takes, and the lease is open here where that is due.
        bring_up_frozen(opened, &args.out, Clock::Host, Reservation::Inherited, report)
            .map_err(|(_, error)| error)
    };
    hold_until_its_end(made(), report)
}

/// Boots another testnet, prints its owner, and holds it until its end.
pub(crate) fn hold_booted(suite: &Declared, args: &BootArgs, report: &Report) -> u8 {
    let made = || {
        end_with_parent(args.parent)?;
        // What there is to say was said of the group itself.
        let engine = args.engine.engine;
        let isolation = args.isolation;
        let start = BringUpOptions {
            out: Some(&args.out),
            warm: false,
            engine,
            isolation,
            room: Reservation::Inherited,
        };
        let up = bring_up(&args.name, &*suite.testnet, &start, &Report::silent());
        up.map_err(|(_, error)| error)
    };
    hold_until_its_end(made(), report)
}

fn hold_until_its_end(made: anyhow::Result<RunningGroup>, report: &Report) -> u8 {
    match made {
        Ok(RunningGroup { handle, .. }) => {
            let holding = Holding { endpoint: handle.endpoint().to_string() };
            report.print(&serde_json::to_string(&holding).unwrap_or_default());
            let problems = handle.farewell().unwrap_or_default();
            // Standard error is the runner's to read.
            let _ = Stderr.write_all(problems.as_bytes());
            exit_code::PASSED
        }
        Err(error) => {
            report.tell(&Event::Error { message: chain(error.as_ref()) });
            exit_code::HOST
        }
    }
}
