//! A frozen VM: files from which any number of VMs can go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use steading_plan::{Handle, VmPlan};

use super::error::EngineError;
use super::prepared::PreparedVm;

/// The files of a frozen VM, each by what it is called in its directory.
///
/// For a group that runs, the directory is `/proc/PID/fd` of its owner, and the names are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenNames {
    /// By what each is to QEMU. Without memory and state the VM was off.
    pub files: BTreeMap<Handle, String>,
    /// The layers of its disk above the image; the oldest comes first.
    pub layers: Vec<String>,
}

/// The open files of a frozen VM. Nobody writes to them.
#[derive(Debug)]
pub struct FrozenVm {
    pub(crate) files: BTreeMap<Handle, OwnedFd>,
    pub(crate) layers: Vec<OwnedFd>,
}

impl FrozenVm {
    /// Opens the files in `directory`.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    pub fn open(directory: &Utf8Path, names: &FrozenNames) -> io::Result<Self> {
        Self::open_with(names, |name, is_memory| {
            // QEMU opens memory for writing even where it maps it privately.
            let file = fs::OpenOptions::new().read(true).write(is_memory).open(directory.join(name))?;
            Ok(file.into_parts().0.into())
        })
    }

    /// Gets the files from `open`, which is told the name and whether it is the guest's memory. That
    /// must be open for writing, all others for reading only.
    ///
    /// # Errors
    ///
    /// The first of `open`.
    pub fn open_with(
        names: &FrozenNames,
        mut open: impl FnMut(&str, bool) -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        let mut frozen = Self { files: BTreeMap::new(), layers: Vec::new() };
        for (handle, name) in &names.files {
            frozen.files.insert(*handle, open(name, *handle == Handle::Memory)?);
        }
        for name in &names.layers {
            frozen.layers.push(open(name, false)?);
        }
        Ok(frozen)
    }

    /// Adds what the VM was prepared with and what is not among its files: image, kernel, initrd.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    pub fn complete(&mut self, vm: &VmPlan, prepared: &PreparedVm) -> Result<(), EngineError> {
        for (handle, file) in prepared.open(vm)? {
            self.files.entry(handle).or_insert(file);
        }
        Ok(())
    }

    /// What the files are called in this process's `/proc/PID/fd`.
    pub fn names(&self) -> FrozenNames {
        let name = |file: &OwnedFd| file.as_raw_fd().to_string();
        FrozenNames {
            files: self.files.iter().map(|(handle, file)| (*handle, name(file))).collect(),
            layers: self.layers.iter().map(name).collect(),
        }
    }

    /// The files, to be written elsewhere.
    pub fn files(&self) -> impl Iterator<Item = (Handle, &OwnedFd)> {
        self.files.iter().map(|(handle, file)| (*handle, file))
    }

    /// Whether there is such a file.
    pub fn has(&self, handle: Handle) -> bool {
        self.files.contains_key(&handle)
    }

    /// The layers of its disk above the image; the oldest comes first.
    pub fn layers(&self) -> &[OwnedFd] {
        &self.layers
    }

    /// What it takes memory for.
    pub fn memory_and_state(&self) -> impl Iterator<Item = &OwnedFd> {
        [Handle::Memory, Handle::State].into_iter().filter_map(|handle| self.files.get(&handle))
    }

    /// Whether it ran or was paused; else it was off.
    pub fn was_on(&self) -> bool {
        self.files.contains_key(&Handle::State)
    }

    /// Another holder of the same files.
    ///
    /// # Errors
    ///
    /// When the process has too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        let files = self.files.iter().map(|(handle, file)| Ok((*handle, file.try_clone()?)));
        let layers = self.layers.iter().map(OwnedFd::try_clone);
        Ok(Self { files: files.collect::<io::Result<_>>()?, layers: layers.collect::<io::Result<_>>()? })
    }

    /// Memory and state, to go on from; none if it was off. The state is opened again, since a
    /// duplicate would have been read to its end by the first who reads.
    pub(crate) fn machine(&self) -> io::Result<Option<FrozenMachine>> {
        let (Some(memory), Some(state)) = (self.files.get(&Handle::Memory), self.files.get(&Handle::State))
        else {
            return Ok(None);
        };
        let memory = File::from(memory.try_clone()?);
        Ok(Some(FrozenMachine { memory, state: File::from(reopen(state)?) }))
    }
}

/// What a machine remembers, in two files.
#[derive(Debug)]
pub struct Saved {
    /// The guest's memory. While the machine lives, that may be its own.
    pub memory: OwnedFd,
    /// The state of the devices.
    pub state: OwnedFd,
}

/// What a machine goes on from.
#[derive(Debug)]
pub(crate) struct FrozenMachine {
    pub(crate) memory: File,
    pub(crate) state: File,
}

/// A file for the state of a machine that is about to be written.
pub(crate) fn state_file() -> io::Result<OwnedFd> {
    crate::unlinked::in_memory("device state").map(OwnedFd::from)
}

/// The same file once more, for reading only, from its beginning.
pub fn reopen(file: &OwnedFd) -> io::Result<OwnedFd> {
    open_layer(&Utf8PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn open_layer(path: &Utf8Path) -> io::Result<OwnedFd> {
    Ok(fs::File::open(path)?.into_parts().0.into())
}
