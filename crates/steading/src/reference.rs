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

/// The files of a built reference guest.
#[derive(Clone, Debug)]
pub struct ReferenceGuest(Built);

/// Finds the reference guest: in `$STEADING_GUEST`, else the one that was built last in the cache.
///
/// # Errors
///
/// When there is none.
pub fn guest() -> anyhow::Result<ReferenceGuest> {
    RECIPE.find().map(ReferenceGuest)
}

/// The reference guest in the directory that `guest/build` printed.
///
/// # Errors
///
/// When there is none.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<ReferenceGuest> {
    RECIPE.open(dir).map(ReferenceGuest)
}

impl ReferenceGuest {
    /// A VM that boots its kernel directly, which is quickest.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name)
    }

    /// A VM that boots it by UEFI.
    pub fn vm_uefi(&self, name: impl Into<String>) -> VmSpec {
        VmSpec::new(name, Boot::Uefi).disk(self.disk())
    }

    /// A VM that boots it by BIOS.
    pub fn vm_bios(&self, name: impl Into<String>) -> VmSpec {
        VmSpec::new(name, Boot::Bios).disk(self.disk())
    }

    /// Its kernel.
    pub fn kernel(&self) -> Utf8PathBuf {
        self.0.kernel()
    }

    /// Its initial RAM disk.
    pub fn initrd(&self) -> Utf8PathBuf {
        self.0.initrd()
    }

    /// Its disk.
    pub fn disk(&self) -> ImageSource {
        self.0.disk()
    }
}
