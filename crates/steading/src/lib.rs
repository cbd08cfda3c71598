//! Write system tests of clusters of virtual machines.
//!
//! A system test is a program that declares a testnet and functions, and ends with
//! [`Suite::main`]. This brings up the testnet on this machine, runs each function in its own
//! process inside the testnet's network, and leaves nothing behind.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use steading::{Group, Suite, Testnet, reference};
//!
//! fn main() -> ExitCode {
//!     Suite::new("hello")
//!         .testnet(|| {
//!             let guest = reference::guest()?;
//!             Ok(Testnet::new().vm(guest.vm("alpha")).vm(guest.vm("beta")))
//!         })
//!         .test("guests_reach_each_other", |testnet: &Group| {
//!             let (alpha, beta) = (testnet.vm("alpha"), testnet.vm("beta"));
//!             alpha.wait_until_succeeds(&format!("ping -c 1 {}", beta.address()))?;
//!             Ok(())
//!         })
//!         .test("a_guest_comes_back_after_its_plug_was_pulled", |testnet| {
//!             let alpha = testnet.vm("alpha");
//!             alpha.kill()?;
//!             alpha.start()?;
//!             alpha.wait_for_open_port(22)?;
//!             Ok(())
//!         })
//!         .main()
//! }
//! ```
//!
//! Tests can make faults of the network between VMs, from outside the guests:
//!
//! ```no_run
//! use std::time::Duration;
//! use steading::{Group, Fault};
//!
//! fn a_cluster_outlives_a_partition(testnet: &Group) -> steading::anyhow::Result<()> {
//!     let partition = testnet.fault(Fault::partition(&["n1", "n2"], &["n3"]))?;
//!     let _far_away = testnet.fault(Fault::delay("n1", Duration::from_millis(50)).with("n2"))?;
//!     testnet.vm("n1").wait_until_succeeds("the-cluster is-writable")?;
//!     partition.undo()?;
//!     // The delay is undone when its guard is dropped, or the function ends in any other way.
//!     testnet.vm("n3").wait_until_succeeds("the-cluster is-complete")?;
//!     Ok(())
//! }
//! ```

//! VMs download declared files from the group's file server, which can also have faults:
//!
//! ```no_run
//! use steading::{Group, FileFault, Testnet, FileSource};
//!
//! # fn declare() -> Testnet {
//! Testnet::new().file(FileSource::new("out/update.img"))
//! # }
//!
//! fn an_upgrade_outlives_a_cut(testnet: &Group) -> steading::anyhow::Result<()> {
//!     let image = testnet.file("update.img")?;
//!     let cut = testnet.file_fault(FileFault::cut_after(1_000_000).of("update.img"))?;
//!     testnet.vm("n1").fail(&format!("curl -fO {}", image.url()))?;
//!     cut.undo()?;
//!     testnet.vm("n1").succeed(&format!("curl -fO -C - {}", image.url()))?;
//!     Ok(())
//! }
//! ```

//! Tests can add names, and issue certificates that clients accept:
//!
//! ```no_run
//! use steading::{Group, Record};
//!
//! fn a_client_finds_its_registry(testnet: &Group) -> steading::anyhow::Result<()> {
//!     testnet.add_record(Record::vm("registry.example.com", "n1"))?;
//!     let certificate = testnet.certificate(&["registry.example.com"])?;
//!     let pem = format!("{}{}", certificate.key, certificate.chain);
//!     testnet.vm("n1").succeed(&format!("cat >/etc/registry.pem <<'END'\n{pem}END"))?;
//!     testnet.vm("n1").succeed("systemctl restart registry")?;
//!     testnet.vm("n2").trust_authority()?;
//!     testnet.vm("n2").succeed("curl -sSf https://registry.example.com/")?;
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

mod built;
pub mod host;
pub mod reference;
mod slots;
pub mod universal;
pub mod upgradable;

/// Returns the image that the environment passes under this name, as the Bazel rules do: the path is in
/// `STEADING_IMAGE_NAME`, the SHA-256 in `STEADING_IMAGE_NAME_SHA256`.
///
/// # Errors
///
/// When the environment has no such image.
pub fn image(name: &str) -> Result<ImageSource, HandedError> {
    steading_plan::handed_image(name, |variable| std::env::var(variable).ok())
}

pub use anyhow;
pub use camino;
pub use ipnet;
pub use steading_api::{
    ActiveFault, ActiveFileFault, AuthorityStatus, Certificate, CommandOutput, ConsoleMatch, FileStatus,
    Freeze, NameStatus, NamesStatus, VmState, VmStatus,
};
#[expect(deprecated, reason = "kept for one version for tests that were written with the old names")]
pub use steading_harness::{Context, WithoutForks};
pub use steading_harness::{
    FaultGuard, ForkFallback, Group, HttpClient, HttpClientBuilder, HttpRequest, HttpResponse, Method,
    Metrics, Sample, Section, Source, Suite, TestOptions, Vm, at_once, exit_code,
};
pub use steading_plan::{
    AddressPlan, Addressing, Boot, CloudInit, Direction, Effect, Engine, Fault, FaultError, FileEffect,
    FileFault, FileNameError, FileSource, GroupName, GuestConfig, HandedError, IfName, ImageSource, MacAddr,
    Plan, Record, RecordData, Resources, Sha256, Testnet, VmName, VmPlan, VmSpec,
};
