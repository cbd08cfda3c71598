//! Waits for what a VM says on its console, and for its end.

use std::time::Duration;

use steading_api::{ConsoleFrom, ConsoleMatch, ConsoleWait, Ended, Failure, FailureKind, VmState, VmStatus};
use steading_plan::VmName;
use tokio::time::timeout;

use super::handle::{CONSOLE_SHOWN, VmHandle};

/// Why a VM that is on is not waited for.
pub(crate) const PANICKED: &str = "its kernel panicked";

/// Waits for a text on the console; ends at once with the VM, or with its kernel.
pub(crate) async fn wait(vm: &VmHandle, wait: &ConsoleWait) -> Result<ConsoleMatch, Failure> {
    let Some(positions) = vm.log.positions(vm.name()).await else {
        return Err(ending(vm.name()));
    };
    let from = match wait.from {
        ConsoleFrom::Start => positions.start,
        ConsoleFrom::Boot => positions.boot,
        ConsoleFrom::At(position) => position,
    };
    let mut look = steading_logs::TextWait::new(&wait.pattern, from).map_err(|error| {
        Failure::new(FailureKind::BadRequest, format!("{:?} is no regular expression: {error}", wait.pattern))
    })?;
    let mut progress = positions.progress;
    let search = async {
        loop {
            let ended = vm.is_over(&vm.status());
            progress.mark_unchanged();
            let (found, same) = vm.log.look(vm.name(), look).await?;
            look = same;
            // A VM that ended before the last look can say nothing more, or nothing that matters.
            if found.is_some() || ended {
                return found;
            }
            let mut view = vm.view();
            tokio::select! {
                changed = progress.changed() => changed.ok()?,
                _ = view.wait_for(|view| vm.is_over(&view.status)) => {}
            }
        }
    };
    let what = format!("waiting for {:?} on its console", wait.pattern);
    match timeout(Duration::from_millis(wait.limit_ms), search).await {
        Ok(Some(found)) => Ok(ConsoleMatch { text: found.text, end: found.end }),
        Ok(None) if vm.status().state != VmState::Off && vm.is_over(&vm.status()) => {
            let message = format!("VM {}: {what}: {PANICKED}", vm.name());
            Err(vm.failure(FailureKind::VmEnded, message).await)
        }
        Ok(None) => Err(vm.off(&what).await),
        Err(_) => {
            let seconds = Duration::from_millis(wait.limit_ms).as_secs_f32();
            let message = format!("VM {}: {what}: not seen within {seconds} s", vm.name());
            Err(vm.failure(FailureKind::TimedOut, message).await)
        }
    }
}

/// Waits until the VM is off, or its kernel has panicked for good.
pub(crate) async fn ended(vm: &VmHandle) -> Result<Ended, Failure> {
    let mut view = vm.view();
    let seen = view.wait_for(|view| vm.is_over(&view.status)).await;
    let status = seen.map_err(|_| ending(vm.name()))?.status.clone();
    let reason = match status.ended {
        Some(reason) => reason,
        None => PANICKED.to_owned(),
    };
    Ok(Ended { reason, console: vm.log.tail(vm.name(), CONSOLE_SHOWN).await })
}

/// Waits until the VM is in this boot or a later one. A VM that is off may yet be started; one whose kernel has
/// panicked boots no more by itself.
pub(crate) async fn booted(vm: &VmHandle, boot: u32) -> Result<VmStatus, Failure> {
    let has_booted = |status: &VmStatus| status.state != VmState::Off && status.boot >= boot;
    let mut view = vm.view();
    let seen = view
        .wait_for(|view| has_booted(&view.status) || (vm.is_over(&view.status) && view.status.panicked))
        .await;
    let status = seen.map_err(|_| ending(vm.name()))?.status.clone();
    if has_booted(&status) {
        return Ok(status);
    }
    let message = format!("VM {}: waiting for boot {boot}: {PANICKED} in boot {}", vm.name(), status.boot);
    Err(vm.failure(FailureKind::VmEnded, message).await)
}

fn ending(vm: &VmName) -> Failure {
    Failure::new(FailureKind::VmEnded, format!("VM {vm}: the group is ending"))
}
