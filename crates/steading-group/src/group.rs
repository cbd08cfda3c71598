//! A group that runs, as requests see it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use steading_api::VmStatus;
use steading_plan::{Plan, Sha256};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::certificates::Certificates;
use crate::failed::{Failed, bad_request};
use crate::faults::Faults;
use crate::files::Files;
use crate::freezes::Freezes;
use crate::isolation::Isolation;
use crate::job::Jobs;
use crate::key::LoginKey;
use crate::log::Log;
use crate::names::Names;
use crate::sources::Sources;
use crate::vm::VmHandle;

/// What requests are answered from.
pub(crate) struct OwnedGroup {
    pub(crate) plan: Plan,
    pub(crate) vms: BTreeMap<String, VmHandle>,
    pub(crate) log: Log,
    pub(crate) log_dir: String,
    pub(crate) key: LoginKey,
    /// The freeze that it is a fork of, if it is one.
    pub(crate) forked_from: Option<String>,
    pub(crate) freezes: Freezes,
    /// The digests of images, by VM.
    pub(crate) images: BTreeMap<String, Sha256>,
    pub(crate) jobs: Jobs,
    pub(crate) faults: Faults,
    pub(crate) files: Files,
    pub(crate) sources: Sources,
    pub(crate) names: Names,
    pub(crate) certificates: Certificates,
    /// Streams of the log, which are read to their ends before the owner ends.
    pub(crate) log_streams: TaskTracker,
    /// Where jobs run.
    pub(crate) tasks: TaskTracker,
    /// Values that test functions keep for each other.
    pub(crate) values: Mutex<HashMap<String, serde_json::Value>>,
    pub(crate) isolation: Isolation,
    /// Told when the group is to end.
    pub(crate) teardown: mpsc::Sender<()>,
}

impl OwnedGroup {
    /// The VM of this name.
    pub(crate) fn vm(&self, name: &str) -> Result<&VmHandle, Failed> {
        self.vms.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.vms.keys().map(String::as_str).collect();
            bad_request(format!("there is no VM named {name:?}\nhint: there are: {}", names.join(", ")))
        })
    }

    /// What all VMs do.
    pub(crate) fn statuses(&self) -> Vec<VmStatus> {
        self.plan.vms.iter().filter_map(|vm| self.vms.get(vm.name.as_str()).map(VmHandle::status)).collect()
    }
}
