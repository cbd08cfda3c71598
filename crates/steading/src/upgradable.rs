//! The upgradable guest: a small Debian with two slots, that downloads new versions of itself and reboots into
//! them. It is built by `guest/upgradable/build`.
//!
//! Its updater is RAUC. A command `steading-update URL...` downloads and installs an update, of which the
//! next boot is. `guest/upgradable/README.md` tells more.

use std::collections::BTreeMap;

use anyhow::bail;
use camino::Utf8PathBuf;
use serde::Deserialize;
use steading_plan::{Boot, FileSource, ImageSource, VmSpec, env_vars};

use crate::built::Recipe;

const RECIPE: Recipe = Recipe {
    what: "upgradable guest",
    program: "guest/upgradable/build",
    variable: env_vars::STEADING_UPGRADABLE_GUEST,
    kind: "upgradable",
};

/// The files of a built upgradable guest: a disk with its version 1, and updates to that and others.
#[derive(Clone, Debug)]
pub struct UpgradableGuest {
    dir: Utf8PathBuf,
    manifest: Manifest,
}

#[derive(Clone, Debug, Deserialize)]
struct Manifest {
    disk: String,
    updates: BTreeMap<String, String>,
}

/// Finds the upgradable guest: in `$STEADING_UPGRADABLE_GUEST`, else the one that was built last in the
/// cache.
///
/// # Errors
///
/// When there is none.
pub fn guest() -> anyhow::Result<UpgradableGuest> {
    let dir = RECIPE.directory()?;
    let manifest = RECIPE.manifest(&dir)?;
    Ok(UpgradableGuest { dir, manifest })
}

impl UpgradableGuest {
    /// A VM that boots its version 1 by UEFI.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        let disk = ImageSource::new(self.dir.join(&self.manifest.disk));
        VmSpec::new(name, Boot::Uefi).disk(disk).reboots_on_panic()
    }

    /// The update to a version, as a file for VMs to download. There are `1` and `2`; and `broken`, whose
    /// kernel finds nothing to start, and panics.
    ///
    /// # Errors
    ///
    /// When there is no update to this version.
    pub fn update(&self, version: &str) -> anyhow::Result<FileSource> {
        let updates = &self.manifest.updates;
        if let Some(file) = updates.get(version) {
            return Ok(FileSource::new(self.dir.join(file)));
        }
        let known: Vec<&str> = updates.keys().map(String::as_str).collect();
        bail!(
            "the upgradable guest has no update to version {version:?}\nhint: there are {}",
            known.join(", ")
        )
    }
}
