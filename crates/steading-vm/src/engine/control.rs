//! What the owner of a group does to a machine that runs, whatever engine runs it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::error::EngineError;
use super::frozen::Saved;
use super::libvirt::error::LibvirtError;
use crate::qmp::QmpError;
use crate::thaw::Seed;

/// A future of a [`Control`] or an engine.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The controls of one machine that runs. An engine implements what it can do, as its
/// [`Capabilities`](steading_plan::Capabilities) say.
pub trait Control: fmt::Debug + Send + Sync {
    /// Pauses the CPUs.
    fn pause(&self) -> Boxed<'_, Result<(), ControlError>>;

    /// Lets the CPUs run.
    fn resume(&self) -> Boxed<'_, Result<(), ControlError>>;

    /// Presses the power button (ACPI). The guest may ignore it.
    fn press(&self, button: Button) -> Boxed<'_, Result<(), ControlError>>;

    /// Cuts the power: the machine ends at once, and the guest does not notice. A machine that has ended
    /// stays so.
    fn cut_power(&self);

    /// Sets whether the machine stays, paused, when its guest powers off, to be booted again in place.
    /// Engines that reboot machines by themselves need not do anything.
    fn stay_when_off(&self, stays: bool) -> Boxed<'_, Result<(), ControlError>> {
        let _ = stays;
        Box::pin(async { Ok(()) })
    }

    /// Boots a machine that stays since its guest powered off ([`Self::stay_when_off`]).
    fn boot_again(&self) -> Boxed<'_, Result<(), ControlError>> {
        Box::pin(async { Ok(()) })
    }

    /// Takes a picture of the display, as PNG.
    fn screenshot(&self) -> Boxed<'_, Result<Vec<u8>, ControlError>> {
        Box::pin(async { Err(ControlError::Unsupported) })
    }

    /// Tells the guest's program for that purpose that it goes on after a freeze. Returns whether there is
    /// such a program.
    fn wake(&self, _: Wake) -> Boxed<'_, io::Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    /// Saves memory and devices of a machine whose CPUs are paused. It has given up its disks then;
    /// [`Self::resume`] takes them back.
    fn save(&self) -> Boxed<'_, Result<Saved, EngineError>>;

    /// The version of the program that runs it, where its saved state depends on that.
    fn version(&self) -> Option<String> {
        None
    }
}

/// The reason for which a power button is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// To power off.
    Off,
    /// To boot again.
    Again,
}

/// What a guest is told after a freeze.
#[derive(Clone, Debug)]
pub struct Wake {
    /// New random numbers.
    pub seed: Seed,
    /// The time for its clock, if that is to be set.
    pub time: Option<Timestamp>,
    /// How long it may take.
    pub limit: Duration,
}

/// A control that does not work.
#[derive(Debug, Error)]
pub enum ControlError {
    /// QEMU refuses, or has ended.
    #[error(transparent)]
    Qemu(#[from] QmpError),
    /// libvirt refuses, or has ended.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// What the machine has written cannot be read.
    #[error("cannot read the screenshot")]
    Screenshot(#[source] io::Error),
    /// The machine has ended.
    #[error("it is off")]
    Off,
    /// The engine has no such control.
    #[error("its engine does not support that")]
    Unsupported,
}

impl ControlError {
    /// Whether that is because the machine has ended.
    pub fn is_off(&self) -> bool {
        match self {
            Self::Qemu(error) => error.is_closed(),
            Self::Libvirt(error) => error.is_off(),
            Self::Off => true,
            Self::Screenshot(_) | Self::Unsupported => false,
        }
    }
}
