//! The upgradable guest: a small Debian with two slots, that downloads new versions of itself and reboots into
//! them. It is built by `guest/upgradable/build`.
//!
//! Its updater is RAUC. A command `steading-update URL...` downloads and installs an update, of which the
//! next boot is. See `guest/upgradable/README.md`.

use steading_plan::{FileSource, VmSpec, env_vars};

use crate::built::Recipe;
use crate::slots::Slots;

const RECIPE: Recipe = Recipe {
    what: "upgradable guest",
    program: "guest/upgradable/build",
    variable: env_vars::STEADING_UPGRADABLE_GUEST,
    kind: "upgradable",
};

/// A built upgradable guest: a disk with its version 1, and updates to that and others.
#[derive(Clone, Debug)]
pub struct UpgradableGuest(Slots);

/// Finds the upgradable guest: in `$STEADING_UPGRADABLE_GUEST`, or the last one built in the cache.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest() -> anyhow::Result<UpgradableGuest> {
    Slots::find(&RECIPE).map(UpgradableGuest)
}

impl UpgradableGuest {
    /// Declares a VM that boots its version 1 by UEFI.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name)
    }

    /// Returns the update to a version, as a file for VMs to download. There are `1` and `2`; and `broken`, whose
    /// kernel finds nothing to start, and panics.
    ///
    /// # Errors
    ///
    /// When there is no update to this version.
    pub fn update(&self, version: &str) -> anyhow::Result<FileSource> {
        self.0.update(version)
    }
}
