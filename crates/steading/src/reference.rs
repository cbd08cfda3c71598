//! The reference guest: a small Debian with systemd that is built by `guest/build`.

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use steading_plan::{Boot, ImageSource, VmSpec, env_vars};

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

/// Finds the reference guest: in `$STEADING_GUEST`, else the one that was built last in the cache.
///
/// # Errors
///
/// When there is none.
pub fn guest() -> anyhow::Result<ReferenceGuest> {
    let dir = match std::env::var(env_vars::STEADING_GUEST) {
        Ok(dir) => Utf8PathBuf::from(dir),
        Err(_) => newest(&steading_harness::prepare::cache_dir().join("guest"))?,
    };
    guest_in(&dir)
}

/// The reference guest in the directory that `guest/build` printed.
///
/// # Errors
///
/// When there is none.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<ReferenceGuest> {
    let file = dir.join("manifest.json");
    let text = fs_err::read_to_string(&file).with_context(|| {
        format!("{dir} holds no reference guest\nhint: guest/build makes one and prints where")
    })?;
    let manifest = serde_json::from_str(&text).with_context(|| format!("cannot understand {file}"))?;
    Ok(ReferenceGuest { dir: dir.to_owned(), manifest })
}

fn newest(dir: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    let entries =
        fs_err::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let built = entries.into_iter().filter_map(|entry| {
        let time =
            fs_err::metadata(entry.path().join("manifest.json")).and_then(|data| data.modified()).ok()?;
        Some((time, Utf8PathBuf::try_from(entry.path()).ok()?))
    });
    match built.max() {
        Some((_, dir)) => Ok(dir),
        None => bail!(
            "there is no reference guest in {dir}\nhint: build it: guest/build; or set STEADING_GUEST to its directory"
        ),
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
