//! The snapshots that a group keeps of itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use steading_api::{Failure, FailureKind, Freeze};
use steading_vm::engine::FrozenVm;

use crate::frozen::{FrozenGroup, OpenedGroup};

/// The longest name of a freeze, which may become a file's.
const NAME_MAX: usize = 64;

/// Everything that was kept of one group.
#[derive(Debug, Default)]
pub(crate) struct Freezes {
    pub(crate) kept: Mutex<BTreeMap<String, Snapshot>>,
    /// One at a time: a freeze is made of several steps of all VMs.
    pub(crate) busy: tokio::sync::Mutex<u32>,
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) description: FrozenGroup,
    pub(crate) summary: Freeze,
    /// Holds the files open that the description names.
    pub(crate) vms: Vec<FrozenVm>,
}

impl Freezes {
    /// What was kept under this name, for those who fork from it.
    pub(crate) fn description(&self, id: &str) -> Result<FrozenGroup, Failure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(id).map(|kept| kept.description.clone()).ok_or_else(|| unknown(id, &kept))
    }

    /// The same with its files, open for others than those who keep it.
    pub(crate) fn open(&self, id: &str) -> Result<OpenedGroup, Failure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = kept.get(id).ok_or_else(|| unknown(id, &kept))?;
        let vms = snapshot.vms.iter().map(FrozenVm::try_clone).collect::<std::io::Result<_>>();
        let vms = vms.map_err(|error| {
            Failure::new(
                FailureKind::Failed,
                format!("cannot open what was kept of the group as {id}: {error}"),
            )
        })?;
        Ok(OpenedGroup { description: snapshot.description.clone(), vms })
    }

    pub(crate) fn summaries(&self) -> Vec<Freeze> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().map(|kept| kept.summary.clone()).collect()
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.remove(id) {
            Some(_) => Ok(()),
            None => Err(unknown(id, &kept)),
        }
    }

    pub(crate) fn name(&self, asked: Option<String>, count: &mut u32) -> Result<String, Failure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = asked else {
            loop {
                *count += 1;
                let name = format!("f{count}");
                if !kept.contains_key(&name) {
                    return Ok(name);
                }
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(fits) {
            return Err(Failure::bad_request(format!(
                "{name:?} cannot be the name of a freeze\nhint: names have up to {NAME_MAX} letters, digits, '-', '_' and '.'"
            )));
        }
        if kept.contains_key(&name) {
            return Err(Failure::bad_request(format!(
                "the group was frozen as {name} already\nhint: give another name, or have that one forgotten"
            )));
        }
        Ok(name)
    }
}

fn unknown(id: &str, kept: &BTreeMap<String, Snapshot>) -> Failure {
    let names: Vec<&str> = kept.keys().map(String::as_str).collect();
    let hint = if names.is_empty() {
        "the group was not frozen yet".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    Failure::bad_request(format!("nothing was kept of the group as {id:?}\nhint: {hint}"))
}
