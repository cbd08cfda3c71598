//! Guests with two slots that a recipe has built: a disk with version 1, and updates to that and others.

use std::collections::BTreeMap;

use anyhow::bail;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use steading_plan::{Boot, FileSource, ImageSource, VmSpec};

use crate::built::Recipe;

/// The files of a built guest with two slots.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    what: &'static str,
    dir: Utf8PathBuf,
    manifest: SlotManifest,
}

#[derive(Clone, Debug, Deserialize)]
struct SlotManifest {
    disk: String,
    updates: BTreeMap<String, String>,
}

impl Slots {
    /// What was built: in the directory of the recipe's variable, else the newest in the cache.
    pub(crate) fn find(recipe: &Recipe) -> anyhow::Result<Self> {
        Self::open(recipe, &recipe.directory()?)
    }

    /// What was built into this directory.
    pub(crate) fn open(recipe: &Recipe, dir: &Utf8Path) -> anyhow::Result<Self> {
        Ok(Self { what: recipe.what, dir: dir.to_owned(), manifest: recipe.manifest(dir)? })
    }

    /// A VM that boots version 1 by UEFI.
    pub(crate) fn vm(&self, name: impl Into<String>) -> VmSpec {
        VmSpec::new(name, Boot::Uefi).disk(self.disk()).reboots_on_panic()
    }

    pub(crate) fn disk(&self) -> ImageSource {
        ImageSource::new(self.dir.join(&self.manifest.disk))
    }

    /// The update to a version.
    pub(crate) fn update(&self, version: &str) -> anyhow::Result<FileSource> {
        let updates = &self.manifest.updates;
        if let Some(file) = updates.get(version) {
            return Ok(FileSource::new(self.dir.join(file)));
        }
        let known: Vec<&str> = updates.keys().map(String::as_str).collect();
        bail!(
            "the {} has no update to version {version:?}\nhint: choose one of: {}",
            self.what,
            known.join(", ")
        )
    }
}
