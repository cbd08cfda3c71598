//! The universal guest: a Debian for helper hosts, with cloud-init, podman and Prometheus, that is built by
//! `guest/universal/build`.
//!
//! It runs what a test hands it: the executable `activate` of a `CONFIG` disk, cloud-init's user data,
//! containers from tarballs. With [`UniversalGuest::metrics_vm`] it is the testnet's Prometheus.
//!
//! ```no_run
//! use steading::{GuestConfig, Suite, Testnet, universal};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new("with-a-helper")
//!         .testnet(|| {
//!             let config = GuestConfig { config_dir: Some("helper".into()), ..GuestConfig::default() };
//!             let helper = universal::guest()?.vm("helper").config(config);
//!             Ok(Testnet::new().vm(helper))
//!         })
//!         .setup(|testnet| testnet.vm("helper").wait_until_activated())
//!         .test("a_container_runs", |testnet| {
//!             let helper = testnet.vm("helper");
//!             let image = helper.load_container("web.tar")?;
//!             helper.succeed(&format!("podman run -d --network host {image}"))?;
//!             helper.wait_for_open_port(80)
//!         })
//!         .main()
//! }
//! ```

use camino::{Utf8Path, Utf8PathBuf};
use steading_plan::{ImageSource, VmSpec, env_vars};

use crate::built::{Built, Recipe};

const RECIPE: Recipe = Recipe {
    what: "universal guest",
    program: "guest/universal/build",
    variable: env_vars::STEADING_UNIVERSAL_GUEST,
    kind: "universal",
};

/// Its services are those of a whole Debian.
const MEMORY_MIB: u32 = 768;

/// The configuration of a metrics VM's Prometheus: it asks the group for the targets.
pub const PROMETHEUS: &str = "\
global:
  scrape_interval: 2s
  scrape_timeout: 2s
scrape_configs:
  - job_name: group
    http_sd_configs:
      - url: http://files:8080/targets.json
        refresh_interval: 2s
";

/// A built universal guest.
#[derive(Clone, Debug)]
pub struct UniversalGuest(Built);

/// Finds the universal guest: in `$STEADING_UNIVERSAL_GUEST`, or the last one built in the cache.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest() -> anyhow::Result<UniversalGuest> {
    RECIPE.find().map(UniversalGuest)
}

/// Opens the universal guest in the directory that `guest/universal/build` printed.
///
/// # Errors
///
/// When there is no such guest.
pub fn guest_in(dir: &Utf8Path) -> anyhow::Result<UniversalGuest> {
    RECIPE.open(dir).map(UniversalGuest)
}

impl UniversalGuest {
    /// Declares a VM that boots its kernel directly, with 768 MiB.
    pub fn vm(&self, name: impl Into<String>) -> VmSpec {
        self.0.vm(name).memory_mib(MEMORY_MIB)
    }

    /// Declares a VM with a Prometheus that scrapes the ports declared by [`VmSpec::metrics`], while their VMs
    /// are on. `Group::metrics` queries it.
    pub fn metrics_vm(&self, name: impl Into<String>) -> VmSpec {
        self.metrics_vm_with(name, PROMETHEUS)
    }

    /// Declares the same VM with another configuration than [`PROMETHEUS`].
    pub fn metrics_vm_with(&self, name: impl Into<String>, configuration: impl Into<String>) -> VmSpec {
        let mut vm = self.vm(name);
        vm.config.credentials.insert("prometheus.yml".to_owned(), configuration.into());
        vm
    }

    /// Returns the path of its kernel.
    pub fn kernel(&self) -> Utf8PathBuf {
        self.0.kernel()
    }

    /// Returns its disk image.
    pub fn disk(&self) -> ImageSource {
        self.0.disk()
    }
}
