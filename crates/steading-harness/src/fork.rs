//! Forks: groups that begin where another was frozen.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use steading_api::{Client, FreezeRequest, chain, socket_path};
use steading_group::{Admission, Clock, FrozenGroup, GroupConfig, OpenedGroup, Origin, WantedIsolation};
use steading_plan::Engine;
use steading_report::output::Stderr;
use steading_report::{Event, Report};
use steading_sys::process::end_with_parent;

use crate::broker::{BrokerOptions, Copies};
use crate::exit_code;
use crate::live::{LiveGroup, wait_for};
use crate::prepare;
use crate::run::{self, Ask, Start, Up};
use crate::suite::Declared;
use crate::up_args::{EngineArgs, GraceArgs, IsolationArgs};

/// How long guests may take to come to rest before they are frozen for many forks.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// A group to be made from what was kept of another.
#[derive(Args, Clone, Debug)]
pub struct ForkArgs {
    /// What to fork from [default: freeze the group now].
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// What guests' clocks show.
    #[arg(long, value_enum, value_name = "TIME", default_value_t)]
    clock: ClockArg,
    /// Where logs go [default: out/GROUP/TIME].
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    broker: BrokerOptions,
    /// A program to run in the fork, which is torn down afterwards; see `run`. Without one the
    /// fork stays until Ctrl-C or `down`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

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

/// Forks a group that runs, and stays or runs a program.
pub(crate) fn fork(group: &LiveGroup, args: &ForkArgs) -> anyhow::Result<u8> {
    let report = Report::new();
    let id = match &args.from {
        Some(id) => id.clone(),
        None => wait_for(async { Ok(group.client.freeze(&FreezeRequest::default()).await?.id) })?,
    };
    let log_dir = args.out.clone().unwrap_or_else(|| run::default_log_dir(group.name()));
    let opened = wait_for(open(&group.client, &id))?;
    let room = Ask::Broker(&args.broker, Copies::One);
    let up = match go_on(opened, &log_dir, args.clock.into(), room, &report) {
        Ok(up) => up,
        Err((code, error)) => return Ok(run::fail(&report, code, &error)),
    };
    Ok(if args.command.is_empty() {
        run::stay(group.name(), up, &report)
    } else {
        run::command_in(up, args.grace.grace, &args.command, &report)
    })
}

/// Opens what the owner behind this client keeps as `id`. Its files are open in the owner's process,
/// beside the directory of its socket.
pub(crate) async fn open(client: &Client, id: &str) -> anyhow::Result<OpenedGroup> {
    let description: FrozenGroup = serde_json::from_value(client.frozen(id).await?)
        .context("what was kept of the group is described in a way that this program does not understand")?;
    let files = Utf8Path::new(client.path()).parent().and_then(Utf8Path::parent);
    Ok(OpenedGroup::open(description, files.context("the owner's socket has no directory")?)?)
}

/// Makes a group that goes on from what was kept of another. The caller must have one thread. An error
/// comes with its exit status.
pub(crate) fn go_on(
    opened: OpenedGroup,
    log_dir: &Utf8Path,
    clock: Clock,
    room: Ask<'_>,
    report: &Report,
) -> Result<Up, (u8, anyhow::Error)> {
    let host = |error: anyhow::Error| (exit_code::HOST, error);
    let (scratch, log_dir) = prepare::directories(log_dir).map_err(|error| host(error.into()))?;
    let plan = opened.description().plan.clone();
    let room = room.admit(&plan, report)?;
    let origin = Origin::Frozen(Box::new(opened), clock);
    // What a fork takes tells little of its testnet: it shares memory with others.
    let admission = Admission::default();
    let isolation = IsolationArgs::from_environment().map_err(host)?;
    let isolation = isolation.choose().map_err(|error| host(error.into()))?;
    let config = GroupConfig { plan, origin, files: Vec::new(), log_dir, scratch, admission, isolation };
    Up::start(config, room).map_err(|error| host(error.into()))
}

/// What the runner asks of a process of its own that makes and holds a fork.
#[derive(Args, Clone, Debug)]
pub(crate) struct HoldArgs {
    /// The owner of the group that was frozen.
    #[arg(long)]
    owner: i32,
    #[arg(long)]
    id: String,
    #[arg(long)]
    out: Utf8PathBuf,
    /// The runner; this process ends with it.
    #[arg(long)]
    parent: i32,
}

impl HoldArgs {
    /// The arguments by which such a process is told.
    pub(crate) fn argv(owner: i32, id: &str, out: &Utf8Path) -> Vec<String> {
        let parent = std::process::id();
        [
            "__fork",
            "--owner",
            &owner.to_string(),
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

/// The same for a testnet that is booted anew.
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
    /// The arguments by which such a process is told.
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

/// What such a process prints when its fork is up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// The process number of the fork's owner.
    pub(crate) owner: i32,
}

/// Makes a fork, tells of it, and holds it until its end.
pub(crate) fn hold(args: &HoldArgs, report: &Report) -> u8 {
    let made = || {
        end_with_parent(args.parent)?;
        let client = Client::new(socket_path(args.owner));
        let opened = wait_for(open(&client, &args.id))?;
        // The runner has reserved what it takes, and the lease is open here where that is due.
        go_on(opened, &args.out, Clock::Host, Ask::Nobody, report).map_err(|(_, error)| error)
    };
    hold_until_its_end(made(), report)
}

/// Boots the testnet anew, tells of it, and holds it until its end.
pub(crate) fn hold_booted(suite: &Declared, args: &BootArgs, report: &Report) -> u8 {
    let made = || {
        end_with_parent(args.parent)?;
        // What there is to say was said of the group itself.
        let engine = args.engine.engine;
        let isolation = args.isolation;
        let start = Start { out: Some(&args.out), warm: false, engine, isolation, room: Ask::Nobody };
        let up = run::bring_up(&args.name, &*suite.testnet, &start, &Report::silent());
        up.map_err(|(_, error)| error)
    };
    hold_until_its_end(made(), report)
}

fn hold_until_its_end(made: anyhow::Result<Up>, report: &Report) -> u8 {
    match made {
        Ok(Up { owner, .. }) => {
            let holding = Holding { owner: owner.pid() };
            report.print(&serde_json::to_string(&holding).unwrap_or_default());
            let problems = owner.wait_for_farewell().unwrap_or_default();
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
