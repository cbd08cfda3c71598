//! Guests for tests that have none of their own: the reference guest, a small Debian with systemd that is
//! built by `guest/build`; and one that can be upgraded, built by `guests/upgradable/build`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, de::DeserializeOwned};
use steading_plan::{Boot, FileSource, ImageSource, VmSpec, env_vars};

/// The files of a built reference guest.
#[derive(Clone, Debug)]
pub struct ReferenceGuest {
    dir: Utf8PathBuf,
    manifest: Manifest,
}

#[derive(Clone, Debug, Deserialize)]
struct Manifest {
    kernel: String,
    initrd: String,
    disk: String,
    cmdline: String,
}

/// The files of a built upgradable guest: a disk with its version 1, and updates to that and others.
///
/// It has two slots, RAUC as its updater, and a command `steading-update URL...`, which downloads and
/// installs an update that the next boot is of. `guests/upgradable/README.md` tells more.
#[derive(Clone, Debug)]
pub struct UpgradableGuest {
    dir: Utf8PathBuf,
    manifest: UpgradableManifest,
}

#[derive(Clone, Debug, Deserialize)]
struct UpgradableManifest {
    disk: String,
    updates: BTreeMap<String, String>,
}

/// Where a kind of guest is looked for, and what makes it.
struct Kind {
    what: &'static str,
    variable: &'static str,
    cache: &'static str,
    recipe: &'static str,
}

const REFERENCE: Kind = Kind {
    what: "reference guest",
    variable: env_vars::STEADING_GUEST,
    cache: "guest",
    recipe: "guest/build",
};

const UPGRADABLE: Kind = Kind {
    what: "upgradable guest",
    variable: env_vars::STEADING_UPGRADABLE_GUEST,
    cache: "guest-upgradable",
    recipe: "guests/upgradable/build",
};

/// Finds the reference guest: in `$STEADING_GUEST`, else the one that was built last in the cache.
///
/// # Errors
///
/// When there is none.
pub fn guest() -> anyhow::Result<ReferenceGuest> {
    guest_in(&REFERENCE.find()?)
}

/// The reference guest in the directory that `guest/build` printed.
///
/// # Errors
///
/// When there is none.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<ReferenceGuest> {
    Ok(ReferenceGuest { dir: dir.to_owned(), manifest: REFERENCE.manifest(dir)? })
}

/// Finds the upgradable guest: in `$STEADING_UPGRADABLE_GUEST`, else the one that was built last in the
/// cache.
///
/// # Errors
///
/// When there is none.
pub fn upgradable_guest() -> anyhow::Result<UpgradableGuest> {
    let dir = UPGRADABLE.find()?;
    let manifest = UPGRADABLE.manifest(&dir)?;
    Ok(UpgradableGuest { dir, manifest })
}

impl Kind {
    fn find(&self) -> anyhow::Result<Utf8PathBuf> {
        match std::env::var(self.variable) {
            Ok(dir) => Ok(Utf8PathBuf::from(dir)),
            Err(_) => self.newest(&steading_harness::prepare::cache_dir().join(self.cache)),
        }
    }

    fn manifest<T: DeserializeOwned>(&self, dir: &Utf8Path) -> anyhow::Result<T> {
        let Self { what, recipe, .. } = self;
        let file = dir.join("manifest.json");
        let text = fs_err::read_to_string(&file)
            .with_context(|| format!("{dir} holds no {what}\nhint: {recipe} makes one and prints where"))?;
        serde_json::from_str(&text).with_context(|| format!("cannot understand {file}"))
    }

    fn newest(&self, dir: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
        let entries =
            fs_err::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let built = entries.into_iter().filter_map(|entry| {
            let time =
                fs_err::metadata(entry.path().join("manifest.json")).and_then(|data| data.modified()).ok()?;
            Some((time, Utf8PathBuf::try_from(entry.path()).ok()?))
        });
        let Self { what, variable, recipe, .. } = self;
        match built.max() {
            Some((_, dir)) => Ok(dir),
            None => bail!(
                "there is no {what} in {dir}\nhint: build it: {recipe}; or set {variable} to its directory"
            ),
        }
    }
}

impl ReferenceGuest {
    /// A VM that boots its kernel directly, which is quickest.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        let boot = Boot::Kernel {
            kernel: self.kernel(),
            initrd: Some(self.dir.join(&self.manifest.initrd)),
            cmdline: self.manifest.cmdline.clone(),
        };
        VmSpec::new(name, boot).disk(self.disk())
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
        self.dir.join(&self.manifest.kernel)
    }

    /// Its disk.
    pub fn disk(&self) -> ImageSource {
        ImageSource::new(self.dir.join(&self.manifest.disk))
    }
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
