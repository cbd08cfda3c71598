//! The host guest: the reference guest with QEMU, which runs VMs that the testnet declares inside it; it is built
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

use camino::{Utf8Path, Utf8PathBuf};
use steading_plan::{ImageSource, VmSpec, env_vars};

use crate::built::{Built, Recipe};

const RECIPE: Recipe = Recipe {
    what: "host guest",
    program: "guest/host/build",
    variable: env_vars::STEADING_HOST_GUEST,
    kind: "host",
};

/// Enough for a small guest inside it.
const MEMORY_MIB: u32 = 1024;

/// The files of a built host guest.
#[derive(Clone, Debug)]
pub struct HostGuest(Built);

/// Finds the host guest: in `$STEADING_HOST_GUEST`, else the one that was built last in the cache.
///
/// # Errors
///
/// When there is none.
pub fn guest() -> anyhow::Result<HostGuest> {
    RECIPE.find().map(HostGuest)
}

/// The host guest in the directory that `guest/host/build` printed.
///
/// # Errors
///
/// When there is none.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<HostGuest> {
    RECIPE.open(dir).map(HostGuest)
}

impl HostGuest {
    /// A VM that boots its kernel directly, with 1024 MiB.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name).memory_mib(MEMORY_MIB)
    }

    /// Its kernel.
    pub fn kernel(&self) -> Utf8PathBuf {
        self.0.kernel()
    }

    /// Its disk.
    pub fn disk(&self) -> ImageSource {
        self.0.disk()
    }
}
