//! The owner's process, from its first instruction to its last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use fs_err as fs;
use rustix::process::{Pid, Signal};
use steading_api::{Ending, OWNER_PREFIX, VmState, chain};
use steading_logs::TestLog;
use steading_net::Network;
use steading_plan::Plan;
use steading_sys::namespace::Identity;
use steading_sys::processes::Processes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::GroupError;
use crate::api;
use crate::beginning::InitialState;
use crate::config::{GroupConfig, Origin};
use crate::freeze;
use crate::freezes::Freezes;
use crate::frozen::Clock;
use crate::ground::Ground;
use crate::group::OwnedGroup;
use crate::isolation::Isolation;
use crate::job::Jobs;
use crate::log::Log;
use crate::making::{MadeVms, Making};
use crate::paths::{listen, write_facts};
use crate::services::Services;
use crate::surroundings::Surroundings;
use crate::taken::Taken;
use crate::vm::{VmHandle, settle};

/// How long programs that still run may take to end by themselves when the group is torn down.
const GRACE: Duration = Duration::from_secs(10);

/// How long streams of the log may take to their ends when the group has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the owner says when the group is up.
pub(crate) const READY: &[u8] = b"ready";

/// Is the owner; returns its exit status.
pub(crate) fn run(
    config: GroupConfig,
    (lease, reserved): (Option<OwnedFd>, Option<String>),
    identity: &Identity,
    mut ready: File,
    mut farewell: File,
) -> u8 {
    let surroundings = match Surroundings::set_up(&config, identity, lease.as_ref()) {
        Ok(surroundings) => surroundings,
        Err(error) => return give_up(&mut ready, &error),
    };
    let name: String = format!("{OWNER_PREFIX}{}", config.plan.group).chars().take(15).collect();
    // A name is a comfort.
    let _ = std::ffi::CString::new(name).map(|name| rustix::thread::set_name(&name));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.map_err(GroupError::io("start the event loop")) {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&mut ready, &error),
    };
    let mut keeper = None;
    let outcome = runtime.block_on(serve(config, reserved, &mut ready, &mut keeper));
    // Threads may still be serving files.
    runtime.shutdown_background();
    surroundings.leave(keeper);
    match outcome {
        Ok(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| in_a_line(problem)).collect();
            // When nobody listens, nobody wants to know.
            let _ = farewell.write_all(lines.join("\n").as_bytes());
            0
        }
        Err(error) => give_up(&mut ready, &error),
    }
}

fn give_up(ready: &mut File, error: &GroupError) -> u8 {
    // When nobody listens, the exit status says it.
    let _ = ready.write_all(chain(error).as_bytes());
    1
}

/// A problem as [`Owner::wait_for_farewell`](crate::Owner::wait_for_farewell) returns it.
pub fn in_a_line(problem: &str) -> String {
    problem.lines().collect::<Vec<_>>().join("; ")
}

/// Serves the group until somebody asks for its end. Returns what went wrong with the log at the last.
async fn serve(
    config: GroupConfig,
    reserved: Option<String>,
    ready: &mut File,
    keeper: &mut Option<Pid>,
) -> Result<Vec<String>, GroupError> {
    let began = Instant::now();
    let mut background = JoinSet::new();
    let (log, log_task) = Log::new(TestLog::open(&config.log_dir)?);
    // It is the last to end.
    let mut log_running = JoinSet::new();
    log_running.spawn(log_task.run());
    let processes = Processes::default();
    let reaper = processes.clone();
    let ends = Processes::ends().map_err(GroupError::io("learn of processes' ends"))?;
    background.spawn(async move {
        // Reading its own descriptor does not fail.
        let _ = reaper.run(ends).await;
    });
    let listener = listen()?;
    let is_fork = matches!(config.origin, Origin::Frozen(..));
    let mut ground = Ground::lay(&config.plan, &config.isolation, is_fork, &processes, &log, keeper).await?;
    let peak = config.admission.peak.clone();
    let taken = Taken::default();
    let (teardown, mut asked_to_end) = mpsc::channel(1);
    let BuiltGroup { group, journals, clock } =
        build(config, teardown, &mut ground, (&processes, &log, &taken), &mut background).await?;
    let app = api::router(Arc::clone(&group));
    background.spawn(async move {
        // Ends with the process.
        let _ = axum::serve(listener, app).await;
    });
    announce(&group, reserved).await;
    let started = match &group.forked_from {
        None => start_vms(&group.plan, &group.vms).await,
        Some(_) => go_on(&group, &ground.network, clock).await,
    };
    if started.is_ok() {
        if group.forked_from.is_some() {
            wait_for_rest(&group, &mut ground, &processes, journals, &mut background);
        }
        ready.write_all(READY).map_err(GroupError::io("report that the group is up"))?;
        // The reader waits for the end of this pipe.
        close(ready)?;
        asked_to_end.recv().await;
        // Usually none runs any more; `down` in another terminal comes while one does.
        group.jobs.end_all(Ending::new(Signal::TERM.as_raw(), GRACE)).await;
        log.driver(None, "the group is torn down").await;
    }
    for vm in group.vms.values() {
        // One that has ended is as good as killed.
        let _ = vm.kill().await;
    }
    report_peak(&group, &taken, peak.as_deref(), began).await;
    let complaint = ground.end().await;
    if let Some(complaint) = &complaint {
        log.warn(None, complaint).await;
    }
    let problems = log.finish().await;
    group.log_streams.close();
    // A reader that has stopped reading is not waited for.
    let _ = tokio::time::timeout(LAST_WORDS, group.log_streams.wait()).await;
    started.map(|()| problems.into_iter().chain(complaint).collect())
}

/// A group whose VMs do not run yet.
struct BuiltGroup {
    group: Arc<OwnedGroup>,
    /// Of VMs that go on, whose journals are followed once this is sent.
    journals: Vec<oneshot::Sender<()>>,
    /// What guests' clocks show when they go on.
    clock: Clock,
}

/// Makes the VMs of a group and starts its services.
async fn build(
    config: GroupConfig,
    teardown: mpsc::Sender<()>,
    ground: &mut Ground,
    (processes, log, taken): (&Processes, &Log, &Taken),
    background: &mut JoinSet<()>,
) -> Result<BuiltGroup, GroupError> {
    let GroupConfig { plan, origin, files, log_dir, scratch, isolation, .. } = config;
    let initial = InitialState::of(origin, files, &plan)?;
    write_facts(&plan, &initial.key, &initial.authority)?;
    let making = Making {
        plan: &plan,
        network: &ground.network,
        launched: ground.launched.as_mut(),
        key: &initial.key,
        scratch: &scratch,
        log_dir: &log_dir,
        processes,
        log,
        taken,
    };
    let MadeVms { vms, images, journals } = making.make(initial.vms, background).await?;
    let state = (initial.network, initial.authority);
    let Services { faults, files, sources, names, certificates } =
        Services::start(&plan, ground, state, &vms, log, background).await?;
    let group = Arc::new(OwnedGroup {
        jobs: Jobs::new(processes.clone(), log.clone(), faults.clone(), files.clone()),
        faults,
        files,
        sources,
        names,
        certificates,
        log: log.clone(),
        log_dir: log_dir.into_string(),
        key: initial.key,
        forked_from: initial.forked_from,
        freezes: Freezes::default(),
        images,
        tasks: TaskTracker::new(),
        log_streams: TaskTracker::new(),
        values: Mutex::new(initial.values),
        isolation,
        teardown,
        vms,
        plan,
    });
    Ok(BuiltGroup { group, journals, clock: initial.clock })
}

/// Logs what the group is.
async fn announce(group: &OwnedGroup, reserved: Option<String>) {
    let up = format!("group {} is up: {}", group.plan.group, group.plan.resources);
    group.log.driver(None, &up).await;
    if let Isolation::Launcher(launcher) = &group.isolation {
        let message = format!("it has no namespaces: {launcher} has made its network in this host's own");
        group.log.driver(None, &message).await;
    }
    if let Some(reserved) = reserved {
        group.log.driver(None, &reserved).await;
    }
}

/// Has the router daemon of a fork start, and journals followed, once its guests are at rest.
fn wait_for_rest(
    group: &OwnedGroup,
    ground: &mut Ground,
    processes: &Processes,
    journals: Vec<oneshot::Sender<()>>,
    background: &mut JoinSet<()>,
) {
    let vms: Vec<&VmHandle> = group.vms.values().collect();
    let at_rest = settle::at_rest(&vms);
    let time = settle::at_rest_or_booting(&vms, at_rest.clone());
    ground.start_router_at(time, processes, &group.log);
    background.spawn(async move {
        at_rest.await;
        // Where nobody follows any more, nobody waits.
        for begin in journals {
            let _ = begin.send(());
        }
    });
}

/// Logs what the VMs have taken, and keeps it for others of the same testnet.
async fn report_peak(group: &OwnedGroup, taken: &Taken, file: Option<&Utf8Path>, began: Instant) {
    let (Some(file), Some(measured)) = (file, taken.measured(began.elapsed())) else { return };
    group.log.driver(None, &taken.message(&group.plan)).await;
    if let Err(error) = steading_broker::record_peak(file, &group.plan, measured) {
        let why = chain(&error);
        group.log.driver(None, &format!("what it took is not kept in {file}: {why}")).await;
    }
}

/// Closes the writing end of the pipe, by putting something else in its place.
fn close(ready: &mut File) -> Result<(), GroupError> {
    let nothing = fs::OpenOptions::new().write(true).open("/dev/null");
    *ready = nothing.map_err(GroupError::io("open /dev/null"))?.into_parts().0;
    Ok(())
}

async fn start_vms(plan: &Plan, vms: &BTreeMap<String, VmHandle>) -> Result<(), GroupError> {
    let mut starting = JoinSet::new();
    for vm in plan.vms.iter().filter(|vm| vm.spec.autostart) {
        if let Some(vm) = vms.get(vm.name.as_str()).cloned() {
            starting.spawn(async move { vm.start().await });
        }
    }
    for outcome in starting.join_all().await {
        outcome.map_err(|failure| GroupError::Owner(failure.message))?;
    }
    Ok(())
}

async fn go_on(group: &OwnedGroup, network: &Network, clock: Clock) -> Result<(), GroupError> {
    let vms: Vec<&VmHandle> = group.vms.values().collect();
    for vm in vms.iter().filter(|vm| vm.status().state == VmState::Frozen) {
        network.know(vm.plan.address, vm.plan.mac).await?;
    }
    let gone_on = freeze::go_on(&vms, &group.tasks, clock).await;
    gone_on.map_err(|failure| GroupError::Owner(failure.message))
}
