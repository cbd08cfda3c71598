//! Makes VMs: their handles and their tasks. None runs yet afterwards.

use std::sync::Arc;

use steading_api::{VmState, VmStatus};
use steading_logs::journal::{FollowEvent, Follower, Power};
use steading_plan::VmPlan;
use steading_vm::engine::VmFiles;
use tokio::sync::{broadcast, mpsc, watch};

use super::common::Common;
use super::handle::VmHandle;
use super::nested::NestedTask;
use super::signs::{Inside, TimedSign};
use super::standing::Standing;
use super::task::VmTask;
use super::view::{Ends, VmView};
use crate::frozen::Past;

/// How many pieces of a console's output may wait for those who look on; more are lost to them.
const OUTPUT_WAITING: usize = 256;

/// A VM that its engine starts, and its task.
pub(crate) fn make(
    index: u32,
    plan: VmPlan,
    (files, past): (VmFiles, Option<Past>),
    inside: Inside,
    common: &Common,
    follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
) -> (VmHandle, VmTask) {
    let mut status = status_of(&plan, "it was not started yet");
    let standing = past.and_then(|past| {
        let Past { frozen, record } = past;
        (status.boot, status.panicked, status.suspended) = (record.boot, record.panicked, record.suspended);
        if frozen.was_on() {
            (status.state, status.ended) = (VmState::Frozen, None);
        } else {
            status.ended = record.ended;
        }
        frozen.was_on().then_some(Standing { frozen, state: record.state })
    });
    let (vm, ends) = with_status(plan, status, common, follower);
    let (plan, common) = (Arc::clone(&vm.plan), common.clone());
    let task = VmTask { index, plan, files, standing, common, ends, inside };
    (vm, task)
}

/// One that another VM runs.
pub(crate) fn make_nested(
    plan: VmPlan,
    host: &VmHandle,
    signs: mpsc::UnboundedReceiver<TimedSign>,
    common: &Common,
    follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
) -> (VmHandle, NestedTask) {
    let status = status_of(&plan, &format!("its host, VM {}, has not started it yet", host.name()));
    let (mut vm, ends) = with_status(plan, status, common, follower);
    vm.host = Some(Arc::new(host.clone()));
    let (plan, host, log) = (Arc::clone(&vm.plan), host.clone(), common.log.clone());
    let task = NestedTask { plan, host, log, signs, ends };
    (vm, task)
}

fn with_status(
    plan: VmPlan,
    status: VmStatus,
    common: &Common,
    follower: impl FnOnce(watch::Receiver<Power>, mpsc::Sender<FollowEvent>) -> Follower,
) -> (VmHandle, Ends) {
    let (view_sender, view) =
        watch::channel(VmView { status, control: None, agent: None, guest_shutdowns: 0 });
    let (sender, commands) = mpsc::channel(8);
    let (power, powered) = watch::channel(Power::Off);
    let (journal_sender, journal) = mpsc::channel(64);
    let follower = follower(powered, journal_sender);
    let (output, _) = broadcast::channel(OUTPUT_WAITING);
    let vm = VmHandle {
        plan: Arc::new(plan),
        host: None,
        commands: sender,
        view,
        log: common.log.clone(),
        output: output.clone(),
        read_to: follower.position(),
    };
    (vm, Ends { commands, view: view_sender, power, follower, journal, output })
}

/// The status of a VM that is off.
fn status_of(plan: &VmPlan, why: &str) -> VmStatus {
    VmStatus {
        name: plan.name.clone(),
        address: plan.address,
        state: VmState::Off,
        boot: 0,
        panicked: false,
        suspended: false,
        stalled: None,
        pid: None,
        ended: Some(why.to_owned()),
    }
}
