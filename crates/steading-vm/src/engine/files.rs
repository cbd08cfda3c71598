//! The open files of a VM, from before its first start until its group ends.
//!
//! The owner of the group holds them; each QEMU process gets duplicates. So a disk survives kill
//! and start, and whatever happens, the kernel frees it with the last process of the group.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use steading_plan::{Boot, Delivery, Handle, VmName, VmPlan};

use super::error::EngineError;
use super::frozen::{FrozenVm, Saved, reopen};
use super::prepared::{FIRMWARE_VARS, PreparedVm, open};
use crate::disk::{CloudInitDisk, cloud_init_disk, config_disk};
use crate::image;
use crate::unlinked;

/// The open files of one VM, by what QEMU knows them as.
#[derive(Debug)]
pub struct VmFiles {
    files: BTreeMap<Handle, OwnedFd>,
    /// Frozen layers of the disk, below the overlay; the oldest comes first.
    layers: Vec<OwnedFd>,
    /// Credentials that go over fw_cfg, in the order of the plan.
    credentials: Vec<OwnedFd>,
    vm: VmName,
    scratch: Utf8PathBuf,
}

/// What a freeze replaces a VM's own files by, made beforehand, so that it cannot fail in the middle.
#[derive(Debug)]
pub struct Successors {
    overlay: Option<OwnedFd>,
    /// The layer that the present overlay becomes.
    layer: Option<OwnedFd>,
    firmware_vars: Option<OwnedFd>,
}

impl VmFiles {
    /// Opens or makes all that the VM's QEMU processes will want, but for sockets and TAPs.
    ///
    /// Files of its own are made without a name in `scratch`. `authorized_key` is the line of
    /// sshd's authorized_keys that lets the driver in.
    ///
    /// # Errors
    ///
    /// When something cannot be opened, or there is no room for it.
    pub fn open(
        vm: &VmPlan,
        prepared: &PreparedVm,
        scratch: &Utf8Path,
        authorized_key: &str,
    ) -> Result<Self, EngineError> {
        let maker = Maker { vm: &vm.name, scratch };
        let mut files = prepared.open(vm)?;
        if !vm.launch.boots_files() {
            return Ok(Self::holding(vm, files, scratch));
        }
        if let Some(image) = &prepared.image {
            let failed = |source| EngineError::Image { vm: vm.name.clone(), source };
            let size = vm.spec.disk_mib.map(|mib| mib << 20);
            files.insert(Handle::Overlay, image.overlay(scratch, size).map_err(failed)?.into());
        }
        if vm.spec.boot == Boot::Uefi {
            files.insert(Handle::FirmwareVars, maker.copy("UEFI variables", Utf8Path::new(FIRMWARE_VARS))?);
        }
        let config = &vm.spec.config;
        let disk_failed = |source| EngineError::Disk { vm: vm.name.clone(), source };
        if let Some(dir) = &config.config_dir {
            let disk = config_disk(dir, scratch).map_err(disk_failed)?;
            files.insert(Handle::ConfigDisk, maker.read_only("CONFIG disk", &disk)?);
        }
        if let Some(given) = &config.cloud_init {
            let derived = CloudInitDisk::new(&vm.name, given.user_data.clone());
            let data = CloudInitDisk {
                meta_data: given.meta_data.clone().or(derived.meta_data),
                network_config: given.network_config.clone(),
                user_data: derived.user_data,
            };
            let disk = cloud_init_disk(&data).map_err(disk_failed)?;
            files.insert(Handle::CloudInitDisk, maker.read_only("cloud-init disk", &disk)?);
        }
        if let Some(ignition) = &config.ignition {
            files.insert(Handle::Ignition, maker.text("Ignition configuration", ignition)?);
        }
        let structure = Delivery::of(vm).smbios_structure(authorized_key);
        files.insert(Handle::Credentials, maker.bytes("credentials", &structure)?);
        if vm.spec.display {
            files.insert(Handle::Screenshot, maker.text("screenshot", "")?);
        }
        Ok(Self { credentials: maker.credentials(vm)?, ..Self::holding(vm, files, scratch) })
    }

    /// The files of a VM that goes on from a frozen one, but for sockets and TAPs.
    ///
    /// # Errors
    ///
    /// When there is no room for them.
    pub fn from_frozen(vm: &VmPlan, frozen: FrozenVm, scratch: &Utf8Path) -> Result<Self, EngineError> {
        let FrozenVm { mut files, layers } = frozen;
        files.remove(&Handle::State);
        files.remove(&Handle::Memory);
        let maker = Maker { vm: &vm.name, scratch };
        // QEMU reads them again when it starts; of the guest's side a frozen VM has them in its memory.
        let credentials = maker.credentials(vm)?;
        let mut fork = Self { files, layers, credentials, vm: vm.name.clone(), scratch: scratch.to_owned() };
        if let Some(below) = fork.layers.last() {
            fork.files.insert(Handle::Overlay, fork.overlay_above(below)?);
        }
        if let Some(kept) = fork.files.get(&Handle::FirmwareVars) {
            let copy = maker.copy("UEFI variables", &fd_path(kept))?;
            fork.files.insert(Handle::FirmwareVars, copy);
        }
        if vm.spec.display {
            fork.files.insert(Handle::Screenshot, maker.text("screenshot", "")?);
        }
        Ok(fork)
    }

    /// Makes what a freeze will replace files by. The VM's QEMU process must have given up its disk.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn successors(&self) -> Result<Successors, EngineError> {
        let maker = Maker { vm: &self.vm, scratch: &self.scratch };
        let overlay = self.files.get(&Handle::Overlay);
        let vars = self.files.get(&Handle::FirmwareVars);
        let layer = overlay.map(|overlay| reopen(overlay).map_err(|source| maker.failed("layer", source)));
        Ok(Successors {
            overlay: overlay.map(|below| self.overlay_above(below)).transpose()?,
            layer: layer.transpose()?,
            firmware_vars: vars.map(|kept| maker.copy("UEFI variables", &fd_path(kept))).transpose()?,
        })
    }

    /// Freezes what there is: the overlay becomes a layer, and nobody writes to it or to the
    /// variables any more. `machine` is what the VM remembered, if it was on: memory and state.
    ///
    /// # Errors
    ///
    /// When the process has too many open files; nothing has changed then.
    pub fn freeze(&mut self, successors: Successors, machine: Option<Saved>) -> io::Result<FrozenVm> {
        let mut files: BTreeMap<Handle, OwnedFd> = BTreeMap::new();
        for (handle, file) in &self.files {
            match handle {
                Handle::Overlay | Handle::Tap | Handle::SecondTap | Handle::Screenshot => {}
                _ => drop(files.insert(*handle, file.try_clone()?)),
            }
        }
        let mut layers: Vec<OwnedFd> =
            self.layers.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        let layer = successors.layer.as_ref().map(OwnedFd::try_clone).transpose()?;
        layers.extend(layer);
        if let Some(Saved { memory, state }) = machine {
            files.insert(Handle::Memory, memory);
            files.insert(Handle::State, state);
        }
        self.layers.extend(successors.layer);
        self.files.extend(successors.overlay.map(|overlay| (Handle::Overlay, overlay)));
        self.files.extend(successors.firmware_vars.map(|vars| (Handle::FirmwareVars, vars)));
        Ok(FrozenVm { files, layers })
    }

    /// How many frozen layers the disk has.
    pub(crate) fn layer_count(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX)
    }

    fn overlay_above(&self, below: &OwnedFd) -> Result<OwnedFd, EngineError> {
        let failed = |source| EngineError::Image { vm: self.vm.clone(), source };
        image::overlay_above(below, &self.scratch).map(OwnedFd::from).map_err(failed)
    }

    /// The file that pictures of the display go into, if the VM has a display.
    pub fn screenshot(&self) -> Option<io::Result<OwnedFd>> {
        self.files.get(&Handle::Screenshot).map(OwnedFd::try_clone)
    }

    fn holding(vm: &VmPlan, files: BTreeMap<Handle, OwnedFd>, scratch: &Utf8Path) -> Self {
        let (layers, credentials) = (Vec::new(), Vec::new());
        Self { files, layers, credentials, vm: vm.name.clone(), scratch: scratch.to_owned() }
    }

    /// A file of the VM, if it has that.
    pub(super) fn get(&self, handle: Handle) -> Option<&OwnedFd> {
        self.files.get(&handle)
    }

    /// Adds a file that was opened elsewhere, such as a TAP.
    pub fn insert(&mut self, handle: Handle, file: OwnedFd) {
        self.files.insert(handle, file);
    }

    /// Duplicates for one QEMU process, each with its number there.
    ///
    /// # Errors
    ///
    /// When the process has too many open files.
    pub fn duplicates(&self) -> io::Result<Vec<(OwnedFd, u32)>> {
        let files = self.files.iter().map(|(handle, file)| (file, handle.number()));
        let layers = (0..).zip(&self.layers).map(|(layer, file)| (file, Handle::layer_number(layer)));
        let credentials = (0..).zip(&self.credentials);
        let credentials = credentials.map(|(place, file)| (file, Handle::credential_number(place)));
        files.chain(layers).chain(credentials).map(|(file, number)| Ok((file.try_clone()?, number))).collect()
    }
}

struct Maker<'a> {
    vm: &'a VmName,
    scratch: &'a Utf8Path,
}

impl Maker<'_> {
    /// A small text in memory.
    fn text(&self, what: &'static str, text: &str) -> Result<OwnedFd, EngineError> {
        self.bytes(what, text.as_bytes())
    }

    /// Credentials that go over fw_cfg, a file each.
    fn credentials(&self, vm: &VmPlan) -> Result<Vec<OwnedFd>, EngineError> {
        let values = Delivery::of(vm).fw_cfg.into_iter();
        values.map(|(_, value)| self.text("credential", value)).collect()
    }

    fn bytes(&self, what: &'static str, bytes: &[u8]) -> Result<OwnedFd, EngineError> {
        let made = unlinked::in_memory(what).and_then(|mut file| {
            file.write_all(bytes)?;
            file.rewind()?;
            Ok(file)
        });
        made.map(OwnedFd::from).map_err(|source| self.failed(what, source))
    }

    /// The same file once more, for reading only: QEMU takes a descriptor from a set only where its
    /// access mode is just what it wants (`fdset` in qemu(1)).
    fn read_only(&self, what: &'static str, file: &File) -> Result<OwnedFd, EngineError> {
        let opened = file.try_clone().and_then(|file| reopen(&file.into()));
        opened.map_err(|source| self.failed(what, source))
    }

    fn copy(&self, what: &'static str, from: &Utf8Path) -> Result<OwnedFd, EngineError> {
        let mut source = open(self.vm, what, from)?;
        let made = unlinked::create(self.scratch).and_then(|mut file| {
            io::copy(&mut source, &mut file)?;
            file.rewind()?;
            Ok(file)
        });
        made.map(OwnedFd::from).map_err(|source| self.failed(what, source))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> EngineError {
        EngineError::Scratch { vm: self.vm.clone(), what, dir: self.scratch.to_owned(), source }
    }
}

/// A path that opens the same file again.
fn fd_path(file: &OwnedFd) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
