//! Guests that a recipe has built: a directory with a manifest.

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, de::DeserializeOwned};
use steading_plan::{Boot, ImageSource, VmSpec};

/// A recipe, and where what it builds is found.
pub(crate) struct Recipe {
    /// What it builds, for messages.
    pub(crate) what: &'static str,
    /// The program that builds it, in Steading's sources.
    pub(crate) program: &'static str,
    /// The environment variable that names a built directory.
    pub(crate) variable: &'static str,
    /// The directory of what it builds, in the cache.
    pub(crate) kind: &'static str,
}

/// The files of a built guest.
#[derive(Clone, Debug)]
pub(crate) struct Built {
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

impl Recipe {
    /// What was built: in the directory of the variable, else the newest in the cache.
    pub(crate) fn find(&self) -> anyhow::Result<Built> {
        let dir = self.directory()?;
        let open = self.open(&dir);
        if self.named().is_some() {
            open.with_context(|| format!("{} is {dir}", self.variable))
        } else {
            open
        }
    }

    /// The directory of the variable, if it is set.
    fn named(&self) -> Option<Utf8PathBuf> {
        std::env::var(self.variable).ok().filter(|dir| !dir.is_empty()).map(Utf8PathBuf::from)
    }

    /// Where it was built: the directory of the variable, else the newest in the cache.
    pub(crate) fn directory(&self) -> anyhow::Result<Utf8PathBuf> {
        self.named().map_or_else(|| self.newest(), Ok)
    }

    /// What was built into this directory.
    pub(crate) fn open(&self, dir: &Utf8Path) -> anyhow::Result<Built> {
        Ok(Built { dir: dir.to_owned(), manifest: self.manifest(dir)? })
    }

    /// The manifest that the recipe wrote into this directory.
    pub(crate) fn manifest<T: DeserializeOwned>(&self, dir: &Utf8Path) -> anyhow::Result<T> {
        let Self { what, program, .. } = self;
        let file = dir.join("manifest.json");
        let text = fs_err::read_to_string(&file).with_context(|| {
            format!("{dir} has no {what}\nhint: build one with {program}, which prints its directory")
        })?;
        serde_json::from_str(&text).with_context(|| format!("cannot parse {file}"))
    }

    fn newest(&self) -> anyhow::Result<Utf8PathBuf> {
        let Self { what, program, variable, kind } = self;
        let dir = steading_harness::prepare::cache_dir().join(kind);
        let entries =
            fs_err::read_dir(&dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let built = entries.into_iter().filter_map(|entry| {
            let data = fs_err::metadata(entry.path().join("manifest.json"));
            Some((data.and_then(|data| data.modified()).ok()?, Utf8PathBuf::try_from(entry.path()).ok()?))
        });
        match built.max() {
            Some((_, dir)) => Ok(dir),
            None => {
                bail!("no {what} in {dir}\nhint: build it with {program}, or set {variable} to its directory")
            }
        }
    }
}

impl Built {
    /// A VM that boots its kernel directly.
    pub(crate) fn vm(&self, name: impl Into<String>) -> VmSpec {
        let boot = Boot::Kernel {
            kernel: self.kernel(),
            initrd: Some(self.initrd()),
            cmdline: self.manifest.cmdline.clone(),
        };
        VmSpec::new(name, boot).disk(self.disk())
    }

    pub(crate) fn initrd(&self) -> Utf8PathBuf {
        self.dir.join(&self.manifest.initrd)
    }

    pub(crate) fn kernel(&self) -> Utf8PathBuf {
        self.dir.join(&self.manifest.kernel)
    }

    pub(crate) fn disk(&self) -> ImageSource {
        ImageSource::new(self.dir.join(&self.manifest.disk))
    }
}
