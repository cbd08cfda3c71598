//! The open files of a VM, from before its first start until its group ends.
//!
//! The owner of the group holds them; each QEMU process gets duplicates. So a disk survives kill
//! and start, and whatever happens, the kernel frees it with the last process of the group.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_plan::{Boot, Delivery, Handle, Sha256, VmName, VmPlan};

use super::frozen::reopen;
use super::{EngineError, FIRMWARE_VARS, FrozenVm, Saved};
use crate::disk::{CloudInit, check_config_dir, cloud_init_disk, config_disk};
use crate::image::{self, Image, ImageCache, Progress};
use crate::unlinked;

/// A VM whose image is in the cache and whose inputs were found good. Nothing of it is open yet.
#[derive(Clone, Debug)]
pub struct PreparedVm {
    image: Option<Image>,
    disk_bytes: u64,
}

impl PreparedVm {
    /// The digest of its image's source, if it has one.
    pub fn image_digest(&self) -> Option<Sha256> {
        self.image.as_ref().map(|image| image.sha256)
    }

    /// Opens what the VM starts from and never writes to: image, kernel, initrd.
    pub(crate) fn open(&self, vm: &VmPlan) -> Result<BTreeMap<Handle, OwnedFd>, EngineError> {
        let mut files = BTreeMap::new();
        if let Boot::Kernel { kernel, initrd, .. } = &vm.spec.boot {
            files.insert(Handle::Kernel, open(&vm.name, "kernel", kernel)?.into());
            if let Some(initrd) = initrd {
                files.insert(Handle::Initrd, open(&vm.name, "initrd", initrd)?.into());
            }
        }
        if let Some(image) = &self.image {
            let opened = image.open();
            let failed = |source| EngineError::Image { vm: vm.name.clone(), source };
            files.insert(Handle::Image, opened.map_err(failed)?.into());
        }
        Ok(files)
    }

    /// How large the VM's disk can grow, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }
}

/// Looks at all that the VM starts from, and unpacks its image into the cache.
///
/// This can take long, and it needs no namespaces: it is done before there is a group.
///
/// # Errors
///
/// When an image, kernel or firmware file is missing or no good.
pub fn prepare(
    vm: &VmPlan,
    cache: &ImageCache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedVm, EngineError> {
    if vm.spec.inside.is_some() {
        // Its host downloads what it starts from, as it is.
        return Ok(PreparedVm { image: None, disk_bytes: 0 });
    }
    if let Boot::Kernel { kernel, initrd, .. } = &vm.spec.boot {
        open(&vm.name, "kernel", kernel)?;
        if let Some(initrd) = initrd {
            open(&vm.name, "initrd", initrd)?;
        }
    }
    if vm.spec.boot == Boot::Uefi {
        open(&vm.name, "firmware", Utf8Path::new(FIRMWARE_VARS))?;
    }
    let image = match &vm.spec.disk {
        None => None,
        Some(disk) => {
            let image = cache.prepare(&disk.path, disk.sha256, progress);
            Some(image.map_err(|source| EngineError::Image { vm: vm.name.clone(), source })?)
        }
    };
    let failed = |source| EngineError::Image { vm: vm.name.clone(), source };
    let asked = vm.spec.disk_mib.map(|mib| mib << 20);
    let disk_bytes = image.as_ref().map_or(Ok(0), |image| image.disk_size(asked)).map_err(failed)?;
    if let Some(dir) = &vm.spec.config.config_dir {
        check_config_dir(dir).map_err(|source| EngineError::Disk { vm: vm.name.clone(), source })?;
    }
    Ok(PreparedVm { image, disk_bytes })
}

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
            let derived = CloudInit::new(&vm.name, given.user_data.clone());
            let data = CloudInit {
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
        let credentials = maker.credentials(vm)?;
        let (layers, scratch) = (Vec::new(), scratch.to_owned());
        Ok(Self { files, layers, credentials, vm: vm.name.clone(), scratch })
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

/// A path that opens the same file anew.
fn fd_path(file: &OwnedFd) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn open(vm: &VmName, what: &'static str, path: &Utf8Path) -> Result<File, EngineError> {
    let opened = fs::File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok(file.into_parts().0)
    });
    opened.map_err(|error| {
        let hint = match (what, error.kind()) {
            ("firmware" | "UEFI variables", _) => "\nhint: on Debian: apt-get install ovmf",
            ("kernel", io::ErrorKind::PermissionDenied) => {
                "\nhint: some distributions keep kernels for root; copy it to where you may read it"
            }
            _ => "",
        };
        // The path is told once.
        let source = error.raw_os_error().map_or(error, io::Error::from_raw_os_error);
        EngineError::Open { vm: vm.clone(), what, path: Utf8PathBuf::from(path), source, hint }
    })
}
