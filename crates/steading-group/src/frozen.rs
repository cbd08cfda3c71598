//! What is kept of a group that was frozen: a description, and a directory of files.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steading_api::{ActiveFault, ActiveFileFault, VmState};
use steading_files::ServedFile;
use steading_logs::journal::JournalPosition;
use steading_names::AuthorityKey;
use steading_names::acme::Account;
use steading_plan::{Plan, Record, Sha256, VmName, VmPlan};
use steading_vm::engine::{EngineError, FrozenNames, FrozenVm, PreparedVm};
use thiserror::Error;

use crate::key::LoginKey;

/// The version of the description. One of another version is not understood.
pub const FROZEN_VERSION: u32 = 6;

/// A frozen group, described. Its files lie in a directory: for a group that runs, that is
/// `/proc/PID/fd` of its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenGroup {
    /// [`FROZEN_VERSION`].
    pub steading_frozen: u32,
    /// Its name.
    pub id: String,
    /// When it was frozen, by the host's clock.
    pub frozen_at: Timestamp,
    /// All that was derived for the group.
    pub plan: Plan,
    /// The version of the QEMU that wrote the state.
    pub qemu_version: String,
    /// The host's CPU, which the guests see; none if theirs was emulated.
    #[serde(default)]
    pub cpu: Option<String>,
    /// How the driver logs in.
    pub key: LoginKey,
    /// What test functions keep for each other.
    pub values: HashMap<String, serde_json::Value>,
    /// The faults of its network.
    #[serde(default)]
    pub faults: Vec<ActiveFault>,
    /// What its file server serves.
    #[serde(default)]
    pub files: Vec<ServedFile>,
    /// What that does wrong on purpose.
    #[serde(default)]
    pub file_faults: Vec<ActiveFileFault>,
    /// Addresses that tests speak from, in addition to the driver's own.
    #[serde(default)]
    pub sources: Vec<Ipv6Addr>,
    /// What was added to its names.
    #[serde(default)]
    pub records: Vec<Record>,
    /// Where its DNS answers in addition to the gateway's addresses.
    #[serde(default)]
    pub resolvers: Vec<IpAddr>,
    /// Its certificate authority.
    pub authority: AuthorityKey,
    /// Whom that knows by ACME.
    #[serde(default)]
    pub acme_accounts: Vec<Account>,
    /// The VMs, in the order of the plan.
    pub vms: Vec<FrozenRecord>,
}

/// One VM of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenRecord {
    /// Its name.
    pub name: VmName,
    /// What it was doing.
    pub state: VmState,
    /// How often it had been booted.
    pub boot: u32,
    /// Whether its kernel had panicked.
    pub panicked: bool,
    /// Whether it had suspended itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Why it was off, if it was.
    pub ended: Option<String>,
    /// The digest of its image's source, if it has one.
    #[serde(default)]
    pub image: Option<Sha256>,
    /// Where its journal was read to.
    pub journal: Option<JournalPosition>,
    /// Its files.
    pub files: FrozenNames,
}

/// Why a frozen group cannot be opened.
#[derive(Debug, Error)]
pub enum FrozenError {
    /// Another version of Steading made it.
    #[error(
        "the frozen group {id} is of version {found}, and this program understands version {FROZEN_VERSION}\nhint: open it with the version of Steading that made it"
    )]
    Version {
        /// Its name.
        id: String,
        /// Its version.
        found: u32,
    },
    /// A file cannot be opened.
    #[error("cannot open what was kept of VM {vm} in {directory}")]
    Open {
        /// The VM.
        vm: VmName,
        /// Where its files are.
        directory: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// A frozen group with its files open: whatever becomes of the one it was taken from, forks can be
/// made of it.
#[derive(Debug)]
pub struct OpenedGroup {
    pub(crate) description: FrozenGroup,
    pub(crate) vms: Vec<FrozenVm>,
}

impl OpenedGroup {
    /// Opens the files of a frozen group in this directory.
    ///
    /// # Errors
    ///
    /// When it is of another version, or a file is missing.
    pub fn open(description: FrozenGroup, directory: &Utf8Path) -> Result<Self, FrozenError> {
        let FrozenGroup { steading_frozen: found, id, .. } = &description;
        if *found != FROZEN_VERSION {
            return Err(FrozenError::Version { id: id.clone(), found: *found });
        }
        let vms = description.vms.iter().map(|record| {
            FrozenVm::open(directory, &record.files).map_err(|source| FrozenError::Open {
                vm: record.name.clone(),
                directory: directory.to_owned(),
                source,
            })
        });
        Ok(Self { vms: vms.collect::<Result<_, _>>()?, description })
    }

    /// Adds what the VMs were prepared with, where it is not among their files: images, kernels.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    pub fn complete(&mut self, plan: &Plan, prepared: &[PreparedVm]) -> Result<(), EngineError> {
        let vms = self.vms.iter_mut().zip(&plan.vms).zip(prepared);
        vms.into_iter().try_for_each(|((frozen, vm), prepared)| frozen.complete(vm, prepared))
    }

    /// The same for one VM, by its place in the plan.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened.
    pub fn complete_vm(&mut self, at: usize, vm: &VmPlan, prepared: &PreparedVm) -> Result<(), EngineError> {
        self.vms[at].complete(vm, prepared)
    }

    /// Has VMs that boot find the firmware where this host has it, and learn how often its time stamp
    /// counter counts.
    pub fn boots_here(&mut self, firmware_code: &str, tsc_mhz: Option<u32>) {
        let qemu = &mut self.description.plan.qemu;
        firmware_code.clone_into(&mut qemu.firmware_code);
        qemu.tsc_mhz = tsc_mhz;
    }

    /// What it is.
    pub fn description(&self) -> &FrozenGroup {
        &self.description
    }

    /// Its VMs' files, in the order of the plan.
    pub fn vms(&self) -> &[FrozenVm] {
        &self.vms
    }
}

/// What a guest's clock shows when it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The host's time.
    #[default]
    Host,
    /// The time at which it was frozen, as if it had stopped.
    Still,
}

/// What a VM goes on from.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) frozen: FrozenVm,
    pub(crate) record: FrozenRecord,
}
