//! The host guest: an upgradable guest with QEMU, which runs VMs that the testnet declares inside it; it is built
//! by `guest/host/build`.
//!
//! ```no_run
//! use steading::{Suite, Testnet, host, reference};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new("nested")
//!         .testnet(|| {
//!             let inner = reference::guest()?.vm("inner").memory_mib(256).inside("outer");
//!             Ok(Testnet::new().vm(host::guest()?.vm("outer")).vm(inner))
//!         })
//!         .test("the_inner_vm_is_on_the_groups_network", |testnet| {
//!             testnet.vm("inner").succeed("systemctl is-system-running --wait").map(drop)
//!         })
//!         .main()
//! }
//! ```

use camino::Utf8Path;
use steading_plan::{FileSource, ImageSource, VmSpec, env_vars};

use crate::built::Recipe;
use crate::slots::Slots;

const RECIPE: Recipe = Recipe {
    what: "host guest",
    program: "guest/host/build",
    variable: env_vars::STEADING_HOST_GUEST,
    kind: "host",
};

/// Enough for a small guest inside it.
const MEMORY_MIB: u32 = 1024;

/// A built host guest: a disk with its version 1, and updates to that and others.
#[derive(Clone, Debug)]
pub struct HostGuest(Slots);

/// Finds the host guest: in `$STEADING_HOST_GUEST`, or the last one built in the cache.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest() -> anyhow::Result<HostGuest> {
    Slots::find(&RECIPE).map(HostGuest)
}

/// Opens the host guest in the directory that `guest/host/build` printed.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<HostGuest> {
    Slots::open(&RECIPE, dir).map(HostGuest)
}

impl HostGuest {
    /// Declares a VM that boots its version 1 by UEFI, with 1024 MiB.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name).memory_mib(MEMORY_MIB)
    }

    /// Returns its disk image.
    pub fn disk(&self) -> ImageSource {
        self.0.disk()
    }

    /// Returns the update to a version, `1` or `2`, as a file for VMs to download: in the guest, `steading-update URL`
    /// installs it, and the next boot is of it.
    ///
    /// # Errors
    ///
    /// When there is no update to this version.
    pub fn update(&self, version: &str) -> anyhow::Result<FileSource> {
        self.0.update(version)
    }
}
