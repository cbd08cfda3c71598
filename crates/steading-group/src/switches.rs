//! What is on a machine's case: how a VM is stood still, and how its power button is pressed, by the
//! engine that runs it.
//!
//! QEMU would end when the guest is off. For the time of a reboot it is told to stand still instead
//! (`set-action`). libvirt knows reboots by itself, and has to be asked, since it is the one that ends a
//! QEMU whose guest is off.

use serde_json::json;
use steading_api::Failure;
use steading_plan::VmName;
use steading_vm::qmp::{Qmp, QmpError};
use thiserror::Error;

use crate::libvirt::{Libvirt, LibvirtError};
use crate::power::monitor;
use crate::vm::Vm;

/// The switches of one VM that is on.
pub(crate) enum Switches {
    Monitor(Qmp),
    Libvirt(Libvirt, VmName),
}

/// Why one is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Button {
    /// So that it be off.
    Off,
    /// So that it boot again.
    Again,
}

/// A switch that does not work.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Monitor(QmpError),
    #[error(transparent)]
    Libvirt(LibvirtError),
}

impl Trouble {
    /// Whether that is because the VM is off.
    pub(crate) fn is_off(&self) -> bool {
        match self {
            Self::Monitor(error) => error.is_closed(),
            Self::Libvirt(error) => error.is_off(),
        }
    }
}

impl Switches {
    /// Those of this VM.
    pub(crate) async fn of(vm: &Vm, action: &str) -> Result<Self, Failure> {
        let qmp = monitor(vm, action).await?;
        Ok(match &vm.libvirt {
            Some(libvirt) => Self::Libvirt(libvirt.clone(), vm.name().clone()),
            None => Self::Monitor(qmp),
        })
    }

    pub(crate) async fn pause(&self) -> Result<(), Trouble> {
        match self {
            Self::Monitor(qmp) => qmp.stop().await.map_err(Trouble::Monitor),
            Self::Libvirt(libvirt, vm) => libvirt.act(vm, &["suspend"]).await.map_err(Trouble::Libvirt),
        }
    }

    pub(crate) async fn resume(&self) -> Result<(), Trouble> {
        match self {
            Self::Monitor(qmp) => qmp.cont().await.map_err(Trouble::Monitor),
            Self::Libvirt(libvirt, vm) => libvirt.act(vm, &["resume"]).await.map_err(Trouble::Libvirt),
        }
    }

    pub(crate) async fn press(&self, button: Button) -> Result<(), Trouble> {
        match self {
            Self::Monitor(qmp) => qmp.system_powerdown().await.map_err(Trouble::Monitor),
            Self::Libvirt(libvirt, vm) => {
                let verb = match button {
                    Button::Off => "shutdown",
                    Button::Again => "reboot",
                };
                libvirt.act(vm, &[verb, "--mode", "acpi"]).await.map_err(Trouble::Libvirt)
            }
        }
    }

    /// Whether the machine is to stand still when its guest powers off, and not to end.
    pub(crate) async fn stand_still_when_off(&self, wanted: bool) -> Result<(), Trouble> {
        let Self::Monitor(qmp) = self else { return Ok(()) };
        let action = if wanted { "pause" } else { "poweroff" };
        let set = qmp.execute("set-action", Some(json!({ "shutdown": action }))).await;
        set.map(drop).map_err(Trouble::Monitor)
    }

    /// Turns on a machine that stands still since its guest powered off.
    pub(crate) async fn boot_again(&self) -> Result<(), Trouble> {
        let Self::Monitor(qmp) = self else { return Ok(()) };
        qmp.system_reset().await.map_err(Trouble::Monitor)?;
        qmp.cont().await.map_err(Trouble::Monitor)
    }
}
