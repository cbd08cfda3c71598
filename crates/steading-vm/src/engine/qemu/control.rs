//! The controls of a QEMU process, by QMP.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use camino::Utf8Path;
use rustix::process::{Pid, Signal};
use serde_json::json;
use steading_plan::{Handle, VmName};
use steading_sys::processes::ExitWatch;
use tokio::sync::{mpsc, watch};

use super::memory::GuestMemory;
use super::save::{Migration, save};
use crate::engine::control::{Boxed, Button, Control, ControlError, Wake};
use crate::engine::error::EngineError;
use crate::engine::frozen::Saved;
use crate::engine::machine::{MachineEvent, MachineEvents};
use crate::qmp::{Qmp, QmpEvent, TimedEvent};
use crate::thaw::ThawPort;

/// The controls of a QEMU process that the group's owner has started.
#[derive(Debug)]
pub(super) struct QemuControl {
    pub(super) vm: VmName,
    pub(super) pid: Pid,
    pub(super) exit: ExitWatch,
    pub(super) qmp: Qmp,
    pub(super) memory: GuestMemory,
    /// The socket of the guest's program that is told when it goes on after a freeze.
    pub(super) thaw: ThawPort,
    /// What QEMU writes pictures of the display into.
    pub(super) screenshot: Option<OwnedFd>,
    pub(super) migration: Migration,
}

impl Control for QemuControl {
    fn pause(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(async { Ok(self.qmp.stop().await?) })
    }

    fn resume(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(async { Ok(self.qmp.cont().await?) })
    }

    fn press(&self, _: Button) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(async { Ok(self.qmp.system_powerdown().await?) })
    }

    fn cut_power(&self) {
        if !self.exit.has_ended() {
            kill(self.pid);
        }
    }

    fn stay_when_off(&self, stays: bool) -> Boxed<'_, Result<(), ControlError>> {
        let action = if stays { "pause" } else { "poweroff" };
        Box::pin(async move {
            self.qmp.execute("set-action", Some(json!({ "shutdown": action }))).await?;
            Ok(())
        })
    }

    fn boot_again(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(async {
            self.qmp.system_reset().await?;
            Ok(self.qmp.cont().await?)
        })
    }

    fn screenshot(&self) -> Boxed<'_, Result<Vec<u8>, ControlError>> {
        Box::pin(async {
            let file = self.screenshot.as_ref().ok_or(ControlError::Unsupported)?;
            // QEMU wants a path: that of a descriptor of a file without a name, which it empties first.
            self.qmp.screendump(Utf8Path::new(&Handle::Screenshot.path())).await?;
            read_screenshot(file)
        })
    }

    fn wake(&self, wake: Wake) -> Boxed<'_, io::Result<bool>> {
        Box::pin(async move {
            if !self.qmp.is_open_in_guest(Handle::Thaw.as_str()).await.unwrap_or(false) {
                return Ok(false);
            }
            self.thaw.thaw(&wake.seed, wake.time, wake.limit).await?;
            Ok(true)
        })
    }

    fn save(&self) -> Boxed<'_, Result<Saved, EngineError>> {
        Box::pin(save(&self.vm, &self.qmp, &self.memory, self.migration.clone()))
    }

    fn version(&self) -> Option<String> {
        Some(self.qmp.version().to_string())
    }
}

/// Reads the picture that QEMU has written to this file.
pub(in crate::engine) fn read_screenshot(file: &OwnedFd) -> Result<Vec<u8>, ControlError> {
    fs_err::read(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(ControlError::Screenshot)
}

/// Where the events of a monitor go: a sink for [`Qmp::connect_to`], which sorts them at once; what concerns
/// the machine; and how far a transfer of its state has come.
pub(in crate::engine) fn events() -> (impl FnMut(TimedEvent) + Send + 'static, MachineEvents, Migration) {
    let (sender, events) = mpsc::unbounded_channel();
    let (progress, migration) = watch::channel(String::new());
    let sink = move |event: TimedEvent| {
        let event = match event.event {
            QmpEvent::Migration { status } => {
                progress.send_replace(status);
                return;
            }
            QmpEvent::Stop => MachineEvent::Paused,
            QmpEvent::Resume => MachineEvent::Resumed,
            QmpEvent::Shutdown { guest: true, .. } => MachineEvent::GuestOff,
            QmpEvent::Reset { .. } => MachineEvent::Reset,
            QmpEvent::GuestPanicked { .. } => MachineEvent::Panicked,
            QmpEvent::Suspended => MachineEvent::Suspended,
            QmpEvent::Woken => MachineEvent::Woken,
            QmpEvent::BlockIoError { operation, reason, no_space, .. } => {
                MachineEvent::DiskError { operation, reason, no_space }
            }
            _ => return,
        };
        // An owner that no longer listens wants no events.
        let _ = sender.send(event);
    };
    (sink, events, migration)
}

/// Ends a QEMU process, which has no children. It may just have ended by itself.
pub(in crate::engine) fn kill(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}
