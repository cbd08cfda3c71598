//! Runs a suite: brings its group up, runs its functions in the order of its schedule, tears it
//! down, and judges.

mod args;
mod attempt;
mod command;
mod follow;
mod forks;
mod pictures;
mod progress;
mod runner;
mod selection;
mod verdict;
pub(crate) mod watch;

use camino::{Utf8Path, Utf8PathBuf};
use steading_api::chain;
use steading_broker::Peak;
use steading_group::{Clock, GroupConfig, GroupError, Origin, Owner};
use steading_logs::TestLog;
use steading_plan::{Engine, Plan, Resources, Testnet, VmPlan, env_vars, text_variable};
use steading_report::{Event, Kind, Outcome, PlannedVm, Report, Reserved, Row, Summary};

use crate::broker::{Admitted, BrokerOptions, Copies, More, Refused, Room};
use crate::command_line::variable;
use crate::exit_code;
use crate::prepare::{self, Planned, PrepareError};
use crate::suite::{Declared, Place, Suite};
use crate::up_args::{EngineArgs, IsolationArgs, UpArgs};
use crate::warm;
pub(crate) use args::{RunArgs, Shard};
pub(crate) use command::command_in;
pub use command::run_command;
use progress::Progress;
use runner::Runner;
pub(crate) use selection::{Selection, is_selected};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tests,
    SetupOnly,
}

pub(crate) fn print_plan(suite: &Declared, group: Option<&str>, engine: Engine, report: &Report) -> u8 {
    let planned = (suite.testnet)()
        .and_then(|testnet| Ok(prepare::plan(group.unwrap_or(&suite.name), &testnet, engine)?))
        .and_then(|planned| Ok(serde_json::to_string_pretty(&planned.plan)?));
    match planned {
        Ok(json) => {
            report.print(&json);
            exit_code::PASSED
        }
        Err(error) => fail(report, blame(&error), &error),
    }
}

pub(crate) fn run(suite: &Declared, args: &RunArgs, mode: Mode, report: &Report) -> u8 {
    let selection = match Selection::new(&suite.tree, args, mode).and_then(|selection| {
        verdict::check_patterns(&suite.rules)?;
        args.up.engine.check(args.freeze_on_failure)?;
        Ok(selection)
    }) {
        Ok(selection) => selection,
        Err(error) => return fail(report, exit_code::USAGE, &error),
    };
    let group = args.group.as_deref().unwrap_or(&suite.name);
    if selection.matches_none {
        return skip_all(suite, &selection, args.up.out.as_deref(), report)
            .unwrap_or_else(|error| fail(report, exit_code::HOST, &error));
    }
    let forks = suite.tree.tests().filter(|id| !selection.left_out.contains_key(id));
    let has_forks = forks.into_iter().any(|id| matches!(suite.tree.place(id), Place::Fork(..)));
    let copies = if has_forks { Copies::WithFork } else { Copies::One };
    let mut start = Start::of(&args.up, copies);
    start.warm |= suite.warm_start;
    match bring_up(group, &*suite.testnet, &start, report) {
        Ok(up) => drive(suite, &selection, up, report),
        Err((code, error)) => fail(report, code, &error),
    }
}

/// Reports each test as skipped, without a testnet: a run of many programs with one filter, which need not name a test
/// of each.
fn skip_all(
    suite: &Declared,
    selection: &Selection,
    out: Option<&Utf8Path>,
    report: &Report,
) -> anyhow::Result<u8> {
    let log_dir = out.map_or_else(|| default_log_dir(&suite.name), Utf8Path::to_owned);
    fs_err::create_dir_all(&log_dir)?;
    let mut summary = Summary::new(&suite.name);
    for id in suite.tree.tests() {
        let reason = selection.left_out.get(&id).cloned().unwrap_or_default();
        summary.add(Row::new(&suite.tree[id].name, Kind::Test, Outcome::Skipped { reason }));
    }
    // The report has an empty log.
    drop(TestLog::open(&log_dir)?);
    summary.write(&log_dir)?;
    let page = steading_report::write(&log_dir)?.into_string();
    let log_dir = log_dir.into_string();
    report.tell(&Event::Finished { summary, log_dir, report: Some(page), again: None });
    Ok(exit_code::PASSED)
}

/// Stays with a group that is up, until it is interrupted or torn down.
pub(crate) fn stay(group: &str, up: Up, report: &Report) -> u8 {
    let suite = Suite::new(group).declared();
    match Selection::new(&suite.tree, &RunArgs::default(), Mode::SetupOnly) {
        Ok(selection) => drive(&suite, &selection, up, report),
        Err(error) => fail(report, exit_code::USAGE, &error),
    }
}

fn drive(suite: &Declared, selection: &Selection, up: Up, report: &Report) -> u8 {
    let log_dir = up.log_dir.clone();
    // Threads and event loops exist from here on only.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let runner = Runner::new(suite, selection, up, report, &log_dir)?;
            Ok(runner.run().await)
        })
    });
    ran.unwrap_or_else(|error: anyhow::Error| fail(report, exit_code::HOST, &error))
}

/// A group that is up.
pub(crate) struct Up {
    pub(crate) owner: Owner,
    pub(crate) log_dir: Utf8PathBuf,
    /// What it needs.
    pub(crate) needed: Resources,
    /// What is reserved for it.
    pub(crate) reserved: Option<Reserved>,
    /// The way to more, if anything is reserved.
    pub(crate) more: Option<More>,
}

/// How a group is to be brought up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    /// Where logs go, if it was said.
    pub(crate) out: Option<&'a Utf8Path>,
    /// Begin with the booted testnet.
    pub(crate) warm: bool,
    pub(crate) engine: Engine,
    pub(crate) isolation: IsolationArgs,
    pub(crate) room: Ask<'a>,
}

impl<'a> Start<'a> {
    /// As it is said on the command line.
    pub(crate) fn of(up: &'a UpArgs, copies: Copies) -> Self {
        let UpArgs { warm, out, engine: EngineArgs { engine }, isolation, broker } = up;
        let room = Ask::Broker(broker, copies);
        Self { out: out.as_deref(), warm: *warm, engine: *engine, isolation: *isolation, room }
    }
}

/// Who sees to it that there is room for a group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// The broker, in the order of the queue.
    Broker(&'a BrokerOptions, Copies),
    /// Whoever has started this process.
    Nobody,
}

impl Ask<'_> {
    /// Waits until there is room. An error comes with its exit status.
    pub(crate) fn admit(self, plan: &Plan, report: &Report) -> Result<Room, (u8, anyhow::Error)> {
        let Self::Broker(options, copies) = self else { return Ok(Room::default()) };
        match options.admit(plan, copies, report).map_err(|error| (exit_code::HOST, error))? {
            Admitted::Yes(room) => Ok(*room),
            Admitted::Interrupted => {
                Err((exit_code::INTERRUPTED, anyhow::anyhow!("interrupted while it waited for its turn")))
            }
        }
    }

    fn check(self, plan: &Plan) -> Result<(), Refused> {
        match self {
            Self::Broker(options, _) => options.check(plan),
            Self::Nobody => Ok(()),
        }
    }
}

impl Up {
    /// Brings a group up. The caller must have one thread; after an error nothing is left.
    pub(crate) fn start(mut config: GroupConfig, room: Room) -> Result<Self, GroupError> {
        let (log_dir, needed) = (config.log_dir.clone(), config.plan.resources);
        let reserved = room.reserved();
        let Room { lease, more } = room;
        config.admission.lease = lease;
        let mut owner = steading_group::spawn(config)?;
        if let Err(error) = owner.wait_until_ready() {
            owner.kill();
            let _ = owner.wait();
            return Err(error);
        }
        Ok(Self { owner, log_dir, needed, reserved, more })
    }
}

/// Brings a testnet up. The caller must have one thread. An error comes with its exit status, and
/// nothing is left.
pub(crate) fn bring_up(
    group: &str,
    testnet: &dyn Fn() -> anyhow::Result<Testnet>,
    start: &Start<'_>,
    report: &Report,
) -> Result<Up, (u8, anyhow::Error)> {
    let planned = testnet().and_then(|testnet| Ok(prepare::plan(group, &testnet, start.engine)?));
    let Planned { plan, acceleration, note } = planned.map_err(|error| (blame(&error), error))?;
    report.tell(&Event::Planned {
        suite: group.to_owned(),
        resources: plan.resources.to_string(),
        vms: plan.vms.iter().map(planned_vm).collect(),
        acceleration: acceleration.acceleration.as_str().to_owned(),
        reason: acceleration.reason,
    });
    let resources = prepare::host_resources();
    for message in note.into_iter().chain(plan.strain(resources)) {
        report.tell(&Event::Warning { message });
    }
    let host = |error: anyhow::Error| (exit_code::HOST, error);
    plan.check(resources).map_err(|error| host(error.into()))?;
    // Before anything is unpacked, and without waiting.
    let isolation = start.isolation.choose().and_then(|isolation| {
        isolation.check(&plan)?;
        Ok(isolation)
    });
    let isolation = isolation.map_err(|error| host(error.into()))?;
    start.room.check(&plan).map_err(|error| host(error.into()))?;
    let peak = Peak::path(&prepare::cache_dir(), &plan);
    let log_dir = start.out.map_or_else(|| default_log_dir(group), Utf8Path::to_owned);
    let mut progress = Progress::new(report);
    let mut config = prepare::prepare(plan, &log_dir, &mut |vm, step| progress.tell(vm, step))
        .map_err(|error| host(error.into()))?;
    if let Some(message) = prepare::tight_room(&config) {
        report.tell(&Event::Warning { message });
    }
    config.admission.peak = Some(peak);
    config.isolation = isolation;
    let cold = match (start.warm, config.plan.no_freeze()) {
        (false, _) => None,
        (true, None) => start_warm(&mut config, report).map_err(host)?,
        (true, Some(why)) => {
            report.tell(&Event::Warm { what: format!("the testnet boots: {why}") });
            None
        }
    };
    // Whoever waits here may hold the lock of a warm start; whoever waits for that holds nothing.
    let room = start.room.admit(&config.plan, report)?;
    report.tell(&Event::Starting);
    let up = Up::start(config, room).map_err(|error| host(error.into()))?;
    if let Some(entry) = cold {
        match entry.keep(&up.owner, report) {
            Ok(()) => {
                report.tell(&Event::Warm { what: "it has booted, and is kept for later runs".to_owned() });
            }
            // It runs all the same.
            Err(error) => report.tell(&Event::Warning {
                message: format!("the booted testnet is not kept for later runs: {}", chain(error.as_ref())),
            }),
        }
    }
    Ok(up)
}

/// Has the group begin with the booted testnet, if that was kept before; else returns where it is to
/// be kept.
fn start_warm(config: &mut GroupConfig, report: &Report) -> anyhow::Result<Option<warm::Entry>> {
    let Origin::Prepared(prepared) = &config.origin else { return Ok(None) };
    let tell = |what: &str| report.tell(&Event::Warm { what: what.to_owned() });
    let entry = warm::Entry::lock(&config.plan, prepared, &mut || {
        tell("another process boots it just now, and keeps it; waiting for that");
    })?;
    match entry.open(&config.plan, prepared) {
        Ok(Some(opened)) => {
            let age = jiff::Timestamp::now().duration_since(opened.description().frozen_at);
            tell(&format!("it goes on from where it had booted, {} s ago", age.as_secs()));
            config.origin = Origin::Frozen(Box::new(opened), Clock::Host);
            return Ok(None);
        }
        Ok(None) => {}
        Err(error) => {
            let why = chain(error.as_ref());
            report.tell(&Event::Warning {
                message: format!("the testnet boots, since what was kept of it cannot be used: {why}"),
            });
            entry.remove()?;
        }
    }
    Ok(Some(entry))
}

fn planned_vm(vm: &VmPlan) -> PlannedVm {
    PlannedVm { name: vm.name.to_string(), address: vm.address, autostart: vm.spec.autostart }
}

/// A testnet that is declared wrongly is the author's mistake; all else is the host's.
fn blame(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<PrepareError>() {
        Some(
            PrepareError::Plan(_)
            | PrepareError::Name(_)
            | PrepareError::Declared(_)
            | PrepareError::Undeclared(_)
            | PrepareError::Variable(_),
        ) => exit_code::USAGE,
        _ => exit_code::HOST,
    }
}

pub(crate) fn fail(report: &Report, code: u8, error: &anyhow::Error) -> u8 {
    report.tell(&Event::Error { message: chain(error.as_ref()) });
    code
}

pub(crate) fn default_log_dir(group: &str) -> Utf8PathBuf {
    let outputs = text_variable(env_vars::TEST_UNDECLARED_OUTPUTS_DIR, &variable);
    // The environment was checked when this process began.
    if let Ok(Some(dir)) = outputs {
        return Utf8PathBuf::from(dir);
    }
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    Utf8PathBuf::from(format!("out/{group}/{now}-{}", std::process::id()))
}
