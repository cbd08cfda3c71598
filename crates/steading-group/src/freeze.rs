//! Freezing a group: all VMs at one instant, or none.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steading_api::{Failure, Freeze, FreezeRequest, VmState, VmStatus, chain};
use steading_logs::VmEvent;
use steading_logs::journal::JournalPosition;
use steading_plan::{Acceleration, THAW_PORT};
use steading_vm::engine::{FrozenVm, Wake, cpu};
use steading_vm::thaw::Seed;
use tokio_util::task::TaskTracker;

use crate::freezes::Snapshot;
use crate::frozen::{Clock, FROZEN_VERSION, FrozenGroup, FrozenRecord};
use crate::group::OwnedGroup;
use crate::vm::{VmHandle, settle};

/// How long a guest's program, and then its agent, may take to set its clock.
const CLOCK_LIMIT: Duration = Duration::from_secs(30);

/// Freezes the group. It goes on as the first fork of what was kept, unless it is to stand.
pub(crate) async fn freeze(group: &OwnedGroup, request: FreezeRequest) -> Result<Freeze, Failure> {
    if let Some(why) = group.plan.no_freeze() {
        return Err(Failure::bad_request(format!("the group cannot be frozen: {why}")));
    }
    let mut count = group.freezes.busy.lock().await;
    let id = group.freezes.name(request.id, &mut count)?;
    let vms: Vec<&VmHandle> =
        group.plan.vms.iter().filter_map(|vm| group.vms.get(vm.name.as_str())).collect();
    settle::before_freeze(&vms, Duration::from_millis(request.settle_ms)).await;
    let began = Instant::now();
    let statuses: Vec<VmStatus> = vms.iter().map(|vm| vm.status()).collect();
    let version = vms.iter().find_map(|vm| vm.view().borrow().control.as_ref()?.version());
    let stopped = Instant::now();
    let held = async {
        all(&vms, async |vm| vm.hold().await).await?;
        all(&vms, async |vm| vm.save().await).await
    };
    if let Err(failure) = held.await {
        // What cannot go on tells so itself.
        let _ = all(&vms, async |vm| vm.release().await).await;
        return Err(failure);
    }
    let journals: Vec<_> = vms.iter().map(|vm| vm.read_to.borrow().clone()).collect();
    let frozen = match all(&vms, async |vm| vm.commit().await).await {
        Ok(frozen) => frozen,
        Err(failure) => {
            // One has ended this very moment. The others go on; nothing is kept.
            let _ = go_on(&vms, &group.tasks, Clock::Host).await;
            return Err(failure);
        }
    };
    let description = describe(group, (&id, version), (&vms, statuses, journals), &frozen).await;
    let bytes = frozen.iter().flat_map(FrozenVm::memory_and_state).map(allocated).sum();
    let kept_seconds = began.elapsed().as_secs_f64();
    let mut summary = Freeze { id: id.clone(), kept_seconds, stood_seconds: None, bytes };
    let kept = Snapshot { description, summary: summary.clone(), vms: frozen };
    group.freezes.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), kept);
    group.log.driver(None, &format!("the group was frozen as {id} in {kept_seconds:.3} s")).await;
    for vm in vms.iter().filter(|vm| vm.status().state == VmState::Frozen) {
        group.log.event(vm.name(), VmEvent::Frozen { id: id.clone() }).await;
    }
    if !request.stay {
        go_on(&vms, &group.tasks, Clock::Host).await?;
        let stood = stopped.elapsed().as_secs_f64();
        summary.stood_seconds = Some(stood);
        group.log.driver(None, &format!("it was paused for {stood:.3} s")).await;
        let mut kept = group.freezes.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get_mut(&id) {
            kept.summary = summary.clone();
        }
    }
    Ok(summary)
}

/// Describes what was kept of the group: its VMs with their states and where their journals were read to, and
/// what its network offers.
async fn describe(
    group: &OwnedGroup,
    (id, version): (&str, Option<String>),
    (vms, statuses, journals): (&[&VmHandle], Vec<VmStatus>, Vec<Option<JournalPosition>>),
    frozen: &[FrozenVm],
) -> FrozenGroup {
    let frozen_vms = vms.iter().zip(statuses).zip(journals).zip(frozen);
    let frozen_vms = frozen_vms.map(|(((vm, status), journal), frozen)| FrozenRecord {
        name: vm.name().clone(),
        state: status.state,
        boot: status.boot,
        panicked: status.panicked,
        suspended: status.suspended,
        ended: status.ended,
        image: group.images.get(vm.name().as_str()).copied(),
        journal,
        files: frozen.names(),
    });
    let (faults, file_faults) = (group.faults.active().await, group.files.faults().await);
    let sources = group.sources.all().await;
    let (records, resolvers) = group.names.kept().await;
    let (authority, acme_accounts) = group.certificates.kept();
    FrozenGroup {
        steading_frozen: FROZEN_VERSION,
        id: id.to_owned(),
        frozen_at: Timestamp::now(),
        plan: group.plan.clone(),
        qemu_version: version.unwrap_or_default(),
        cpu: (group.plan.qemu.acceleration == Acceleration::Kvm).then(cpu),
        key: group.key.clone(),
        values: group.values.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        faults,
        files: group.files.served(),
        file_faults,
        sources,
        records,
        resolvers,
        authority,
        acme_accounts,
        vms: frozen_vms.collect(),
    }
}

/// Lets a group that stands frozen go on.
pub(crate) async fn thaw(group: &OwnedGroup) -> Result<(), Failure> {
    let _busy = group.freezes.busy.lock().await;
    let vms: Vec<&VmHandle> = group.vms.values().collect();
    go_on(&vms, &group.tasks, Clock::Host).await
}

/// Lets frozen VMs go on: all are loaded before the first runs.
pub(crate) async fn go_on(vms: &[&VmHandle], tasks: &TaskTracker, clock: Clock) -> Result<(), Failure> {
    let standing: Vec<&VmHandle> =
        vms.iter().copied().filter(|vm| vm.status().state == VmState::Frozen).collect();
    all(&standing, async |vm| vm.load().await).await?;
    all(&standing, async |vm| vm.run().await).await?;
    for vm in standing.into_iter().filter(|vm| vm.status().state == VmState::Running).cloned() {
        tasks.spawn(async move {
            if !wake(&vm, clock).await && clock == Clock::Host {
                set_clock(vm).await;
            }
        });
    }
    Ok(())
}

/// Has the guest reseed its random numbers and set its clock, if it has a program for that. (A kernel with a
/// driver for the VM generation id has seeded them by itself.)
async fn wake(vm: &VmHandle, clock: Clock) -> bool {
    let Some(control) = vm.view().borrow().control.clone() else { return false };
    let mut seed = Seed::default();
    let read = fs_err::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed));
    let time = (clock == Clock::Host).then(Timestamp::now);
    let done = match read {
        Ok(()) => control.wake(Wake { seed, time, limit: CLOCK_LIMIT }).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(is_awake) => is_awake,
        Err(error) => {
            let message = format!(
                "its program at the port {THAW_PORT} did not do what it is for after a freeze: {error}"
            );
            vm.log.driver(Some(vm.name()), &message).await;
            false
        }
    }
}

/// Sets the guest's clock, which stopped with it. A guest without an agent keeps its own.
async fn set_clock(vm: VmHandle) {
    let Some(agent) = vm.view().borrow().agent.clone() else { return };
    if let Err(error) = agent.set_time(Timestamp::now(), CLOCK_LIMIT).await {
        let why = chain(&error);
        let message = format!(
            "its clock is behind by the time that it was frozen, since its agent did not set it: {why}"
        );
        vm.log.driver(Some(vm.name()), &message).await;
    }
}

/// Does one step to all VMs at once, and waits for all; the first failure, if any.
async fn all<T: Send + 'static>(
    vms: &[&VmHandle],
    step: impl AsyncFn(VmHandle) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let outcomes = futures::future::join_all(vms.iter().map(|vm| step((*vm).clone()))).await;
    outcomes.into_iter().collect()
}

fn allocated(file: &OwnedFd) -> u64 {
    // A file that cannot be looked at takes no less room, but nobody can tell.
    let data = file.try_clone().and_then(|file| File::from(file).metadata());
    data.map_or(0, |data| data.blocks() * 512)
}
