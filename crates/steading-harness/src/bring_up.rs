//! Brings a group up: from a declared testnet, from one that had booted before, or from a frozen group.

use camino::{Utf8Path, Utf8PathBuf};
use steading_api::chain;
use steading_broker::Peak;
use steading_group::{Admission, Clock, GroupConfig, GroupError, OpenedGroup, Origin};
use steading_plan::{Engine, Resources, Testnet, VmPlan, env_vars, text_variable};
use steading_report::{Event, PlannedVm, Report, Reserved};

use crate::broker::{Copies, More, Reservation, Room};
use crate::environment::variable;
use crate::exit_code;
use crate::handle::GroupHandle;
use crate::prepare::{self, Planned, PrepareError};
use crate::progress::ImageProgress;
use crate::up_args::{EngineArgs, IsolationArgs, UpArgs};
use crate::warm;

/// A group that is up.
pub(crate) struct RunningGroup {
    pub(crate) handle: Box<dyn GroupHandle>,
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
pub(crate) struct BringUpOptions<'a> {
    /// Where logs go, if it was said.
    pub(crate) out: Option<&'a Utf8Path>,
    /// Begin with the booted testnet.
    pub(crate) warm: bool,
    pub(crate) engine: Engine,
    pub(crate) isolation: IsolationArgs,
    pub(crate) room: Reservation<'a>,
}

impl<'a> BringUpOptions<'a> {
    /// As it is said on the command line.
    pub(crate) fn of(up: &'a UpArgs, copies: Copies) -> Self {
        let UpArgs { warm, out, engine: EngineArgs { engine }, isolation, broker } = up;
        let room = Reservation::Broker(broker, copies);
        Self { out: out.as_deref(), warm: *warm, engine: *engine, isolation: *isolation, room }
    }
}

impl RunningGroup {
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
        Ok(Self { handle: Box::new(owner), log_dir, needed, reserved, more })
    }
}

/// Brings a testnet up. The caller must have one thread. An error comes with its exit status, and
/// nothing is left.
pub(crate) fn bring_up(
    group: &str,
    testnet: &dyn Fn() -> anyhow::Result<Testnet>,
    start: &BringUpOptions<'_>,
    report: &Report,
) -> Result<RunningGroup, (u8, anyhow::Error)> {
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
    let mut progress = ImageProgress::new(report);
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
            report.tell(&Event::Warm { what: format!("booting the testnet: {why}") });
            None
        }
    };
    // Whoever waits here may hold the lock of a warm start; whoever waits for that holds nothing.
    let room = start.room.admit(&config.plan, report)?;
    report.tell(&Event::Starting);
    let up = RunningGroup::start(config, room).map_err(|error| host(error.into()))?;
    if let Some(entry) = cold {
        match entry.keep(&up.handle.client(), report) {
            Ok(()) => {
                report.tell(&Event::Warm { what: "the booted testnet is cached for later runs".to_owned() });
            }
            // It runs all the same.
            Err(error) => report.tell(&Event::Warning {
                message: format!("cannot cache the booted testnet for later runs: {}", chain(error.as_ref())),
            }),
        }
    }
    Ok(up)
}

/// Has the group begin with the booted testnet, if that was kept before; else returns where it is to
/// be kept.
fn start_warm(config: &mut GroupConfig, report: &Report) -> anyhow::Result<Option<warm::WarmEntry>> {
    let Origin::Prepared(prepared) = &config.origin else { return Ok(None) };
    let tell = |what: &str| report.tell(&Event::Warm { what: what.to_owned() });
    let entry = warm::WarmEntry::lock(&config.plan, prepared, &mut || {
        tell("another process is booting the same testnet; waiting for it");
    })?;
    match entry.open(&config.plan, prepared) {
        Ok(Some(opened)) => {
            let age = jiff::Timestamp::now().duration_since(opened.description().frozen_at);
            tell(&format!("continuing from the cached testnet, which booted {} s ago", age.as_secs()));
            config.origin = Origin::Frozen(Box::new(opened), Clock::Host);
            return Ok(None);
        }
        Ok(None) => {}
        Err(error) => {
            let why = chain(error.as_ref());
            report.tell(&Event::Warning {
                message: format!("booting the testnet, since the cached one cannot be used: {why}"),
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
pub(crate) fn blame(error: &anyhow::Error) -> u8 {
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

/// Makes a group that goes on from what was kept of another. The caller must have one thread. An error
/// comes with its exit status.
pub(crate) fn bring_up_frozen(
    opened: OpenedGroup,
    log_dir: &Utf8Path,
    clock: Clock,
    room: Reservation<'_>,
    report: &Report,
) -> Result<RunningGroup, (u8, anyhow::Error)> {
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
    RunningGroup::start(config, room).map_err(|error| host(error.into()))
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
