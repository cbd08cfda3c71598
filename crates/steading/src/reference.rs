//! The reference guest: a small Debian with systemd that is built by `guest/build`.

use camino::{Utf8Path, Utf8PathBuf};
use steading_plan::{Boot, ImageSource, VmSpec, env_vars};

use crate::built::{Built, Recipe};

const RECIPE: Recipe = Recipe {
    what: "reference guest",
    program: "guest/build",
    variable: env_vars::STEADING_GUEST,
    kind: "guest",
};

/// A built reference guest.
#[derive(Clone, Debug)]
pub struct ReferenceGuest(Built);

/// Finds the reference guest: in `$STEADING_GUEST`, or the last one built in the cache.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest() -> anyhow::Result<ReferenceGuest> {
    RECIPE.find().map(ReferenceGuest)
}

/// Opens the reference guest in the directory that `guest/build` printed.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<ReferenceGuest> {
    RECIPE.open(dir).map(ReferenceGuest)
}

impl ReferenceGuest {
    /// Declares a VM that boots its kernel directly, which is fastest.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name)
    }

    /// Declares a VM that boots it by UEFI.
    pub fn vm_uefi(&self, name: impl Into<String>) -> VmSpec {
        VmSpec::new(name, Boot::Uefi).disk(self.disk())
    }

    /// Declares a VM that boots it by BIOS.
    pub fn vm_bios(&self, name: impl Into<String>) -> VmSpec {
        VmSpec::new(name, Boot::Bios).disk(self.disk())
    }

    /// Returns the path of its kernel.
    pub fn kernel(&self) -> Utf8PathBuf {
        self.0.kernel()
    }

    /// Returns the path of its initial RAM disk.
    pub fn initrd(&self) -> Utf8PathBuf {
        self.0.initrd()
    }

    /// Returns its disk image.
    pub fn disk(&self) -> ImageSource {
        self.0.disk()
    }
}
