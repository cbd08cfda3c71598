//! What takes more than one step to do to a VM: pause and resume, soft reboot, shutdown, pictures.
//!
//! A soft reboot presses the power button (ACPI), as people do, so it works with every guest that reacts to
//! it, and the same process boots again.

use std::sync::Arc;
use std::time::Duration;

use steading_api::{Failure, FailureKind, Screenshot, VmState, VmVerb, chain};
use steading_vm::engine::{Button, Control, ControlError};

use super::console::PANICKED;
use super::handle::VmHandle;
use super::nested;
use super::view::VmView;

/// How long a guest may take to power off. Under emulation, and with stopping services that have
/// time limits of their own (90 s in systemd), it can take long.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(180);

/// How long to wait for a guest to react before the button is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Does what is asked for, and returns when it is done.
pub(crate) async fn act(vm: &VmHandle, verb: VmVerb) -> Result<(), Failure> {
    vm.log.driver(Some(vm.name()), verb.as_str()).await;
    if let Some(host) = &vm.host {
        return nested::act(vm, host, verb).await;
    }
    match verb {
        VmVerb::Start => vm.start().await,
        VmVerb::Kill => vm.kill().await,
        VmVerb::Pause => {
            let control = control(vm, "pause").await?;
            done(vm, "pause", control.pause().await).await?;
            until(vm, |view| view.status.state != VmState::Running).await
        }
        VmVerb::Resume => {
            let control = control(vm, "resume").await?;
            done(vm, "resume", control.resume().await).await?;
            until(vm, |view| view.status.state != VmState::Paused).await
        }
        VmVerb::Shutdown => {
            let control = control(vm, "shut down").await?;
            let button = || control.press(Button::Off);
            press(vm, "shut down", button, |view| view.status.state == VmState::Off).await
        }
        VmVerb::Reboot => reboot(vm).await,
    }
}

async fn reboot(vm: &VmHandle) -> Result<(), Failure> {
    let control = control(vm, "reboot").await?;
    let (before, boot) = {
        let view = vm.view();
        let view = view.borrow();
        (view.guest_shutdowns, view.status.boot)
    };
    done(vm, "reboot", control.stay_when_off(true).await).await?;
    let button = || control.press(Button::Again);
    let outcome = press(vm, "reboot", button, |view| view.guest_shutdowns > before).await;
    let restored = control.stay_when_off(false).await;
    outcome?;
    done(vm, "reboot", restored).await?;
    done(vm, "reboot", control.boot_again().await).await?;
    until(vm, |view| view.status.boot > boot && view.status.state != VmState::Paused).await
}

/// Takes a picture of the display.
pub(crate) async fn screenshot(vm: &VmHandle) -> Result<Screenshot, Failure> {
    if !vm.plan.spec.display {
        let message = format!(
            "VM {} has no display\nhint: declare it with .display(), or `display = true` in TOML",
            vm.name()
        );
        return Err(vm.failure(FailureKind::BadRequest, message).await);
    }
    let control = control(vm, "take a picture of").await?;
    match control.screenshot().await {
        Ok(png) => Ok(Screenshot::new(png)),
        Err(error) => Err(failed(vm, "take a picture of", &error).await),
    }
}

/// The controls of a VM that is on.
async fn control(vm: &VmHandle, action: &str) -> Result<Arc<dyn Control>, Failure> {
    let control = vm.view().borrow().control.clone();
    match control {
        Some(control) => Ok(control),
        None => Err(vm.off(&format!("cannot {action}")).await),
    }
}

/// Presses the power button until the guest is off, by the given sign or in fact. A guest whose
/// driver for the button is not loaded yet misses a press, so it is pressed again now and then. One whose kernel
/// has panicked, or panics meanwhile, never answers.
async fn press<F: Future<Output = Result<(), ControlError>>>(
    vm: &VmHandle,
    action: &str,
    button: impl Fn() -> F,
    off: impl Fn(&VmView) -> bool,
) -> Result<(), Failure> {
    let mut again = tokio::time::interval(PRESS_AGAIN);
    let end = tokio::time::Instant::now() + POWER_OFF_LIMIT;
    let answers = |view: &VmView| off(view) || vm.is_over(&view.status);
    let powered_off = until(vm, answers);
    tokio::pin!(powered_off);
    loop {
        tokio::select! {
            _ = &mut powered_off => {
                let view = vm.view().borrow().clone();
                let is_off = off(&view) || view.status.state == VmState::Off;
                return if is_off { Ok(()) } else { Err(panicked(vm, action).await) };
            }
            at = again.tick() => {
                if at >= end {
                    return Err(ignored(vm).await);
                }
                match button().await {
                    // It is off, which the next round sees.
                    Err(error) if error.is_off() => {}
                    pressed => done(vm, "press the power button of", pressed).await?,
                }
            }
        }
    }
}

async fn panicked(vm: &VmHandle, action: &str) -> Failure {
    let message = format!(
        "VM {}: cannot {action} it: {}\nhint: use `kill`, then `start`, to boot it again",
        vm.name(),
        PANICKED
    );
    vm.failure(FailureKind::VmEnded, message).await
}

async fn ignored(vm: &VmHandle) -> Failure {
    let message = format!(
        "VM {} did not power off within {} s of pressing its power button\nhint: check that the guest reacts to \
         the ACPI button (logind or acpid), and which of its services is slow to stop; `kill` cuts the power",
        vm.name(),
        POWER_OFF_LIMIT.as_secs()
    );
    vm.failure(FailureKind::TimedOut, message).await
}

async fn done(vm: &VmHandle, action: &str, outcome: Result<(), ControlError>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(failed(vm, action, &error).await),
    }
}

async fn failed(vm: &VmHandle, action: &str, error: &ControlError) -> Failure {
    let message = format!("VM {}: cannot {action} it: {}", vm.name(), chain(error));
    vm.failure(FailureKind::Failed, message).await
}

/// Waits for a view of the VM; one that is off is waited for no longer.
async fn until(vm: &VmHandle, wanted: impl Fn(&VmView) -> bool) -> Result<(), Failure> {
    let mut view = vm.view();
    let seen = view.wait_for(|view| wanted(view) || view.status.state == VmState::Off).await;
    let reached = seen.is_ok_and(|view| wanted(&view));
    if reached { Ok(()) } else { Err(vm.off("it ended meanwhile").await) }
}
