//! The controls of a domain. libvirt must know of all that is done to it, so verbs go through `virsh`; the second
//! monitor takes pictures and reports events.

use camino::Utf8Path;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use steading_plan::VmName;
use steading_sys::processes::ExitWatch;

use super::Libvirt;
use crate::engine::control::{Boxed, Button, Control, ControlError};
use crate::engine::error::EngineError;
use crate::engine::frozen::Saved;
use crate::engine::qemu;
use crate::qmp::Qmp;

/// The controls of a domain that runs.
#[derive(Debug)]
pub(super) struct DomainControl {
    pub(super) libvirt: Libvirt,
    pub(super) vm: VmName,
    pub(super) pid: Pid,
    pub(super) exit: ExitWatch,
    pub(super) qmp: Qmp,
    /// What QEMU writes pictures of the display into, and where it finds that.
    pub(super) screenshot: Option<OwnedFd>,
    pub(super) screenshot_path: String,
}

impl DomainControl {
    async fn virsh(&self, verb: &[&str]) -> Result<(), ControlError> {
        Ok(self.libvirt.act(&self.vm, verb).await?)
    }
}

impl Control for DomainControl {
    fn pause(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(self.virsh(&["suspend"]))
    }

    fn resume(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(self.virsh(&["resume"]))
    }

    /// libvirt ends a QEMU whose guest is off, so it must know which of both is wanted.
    fn press(&self, button: Button) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(self.virsh(match button {
            Button::Off => &["shutdown", "--mode", "acpi"],
            Button::Again => &["reboot", "--mode", "acpi"],
        }))
    }

    fn cut_power(&self) {
        if !self.exit.has_ended() {
            qemu::kill(self.pid);
        }
    }

    fn screenshot(&self) -> Boxed<'_, Result<Vec<u8>, ControlError>> {
        Box::pin(async {
            let file = self.screenshot.as_ref().ok_or(ControlError::Unsupported)?;
            self.qmp.screendump(Utf8Path::new(&self.screenshot_path)).await?;
            qemu::read_screenshot(file)
        })
    }

    fn save(&self) -> Boxed<'_, Result<Saved, EngineError>> {
        Box::pin(async { Err(EngineError::NoFreeze { vm: self.vm.clone() }) })
    }
}
