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
use steading_plan::{Boot, Handle, VmName, VmPlan};

use super::{EngineError, FIRMWARE_VARS};
use crate::disk::{CloudInit, cloud_init_disk, config_disk};
use crate::image::{Image, ImageCache, Progress};
use crate::unlinked;

/// A VM whose image is in the cache and whose inputs were found good. Nothing of it is open yet.
#[derive(Clone, Debug)]
pub struct PreparedVm {
    image: Option<Image>,
}

impl PreparedVm {
    /// How large the VM's disk can grow, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.image.as_ref().map_or(0, |image| image.size)
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
    Ok(PreparedVm { image })
}

/// The open files of one VM, by what QEMU knows them as.
#[derive(Debug)]
pub struct VmFiles {
    files: BTreeMap<Handle, OwnedFd>,
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
        let mut files = BTreeMap::new();
        if let Boot::Kernel { kernel, initrd, .. } = &vm.spec.boot {
            files.insert(Handle::Kernel, open(&vm.name, "kernel", kernel)?.into());
            if let Some(initrd) = initrd {
                files.insert(Handle::Initrd, open(&vm.name, "initrd", initrd)?.into());
            }
        }
        if let Some(image) = &prepared.image {
            let failed = |source| EngineError::Image { vm: vm.name.clone(), source };
            let size = vm.spec.disk_mib.map(|mib| mib << 20);
            files.insert(Handle::Image, image.open().map_err(failed)?.into());
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
        let credential = format!("io.systemd.credential:ssh.authorized_keys.root={authorized_key}");
        files.insert(Handle::AuthorizedKey, maker.text("credential", &credential)?);
        if vm.spec.display {
            files.insert(Handle::Screenshot, maker.text("screenshot", "")?);
        }
        Ok(Self { files })
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
    pub(crate) fn duplicates(&self) -> io::Result<Vec<(OwnedFd, u32)>> {
        self.files.iter().map(|(handle, file)| Ok((file.try_clone()?, handle.number()))).collect()
    }
}

struct Maker<'a> {
    vm: &'a VmName,
    scratch: &'a Utf8Path,
}

impl Maker<'_> {
    /// A small text in memory.
    fn text(&self, what: &'static str, text: &str) -> Result<OwnedFd, EngineError> {
        let made = unlinked::in_memory(what).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            Ok(file)
        });
        made.map(OwnedFd::from).map_err(|source| self.failed(what, source))
    }

    /// The same file once more, for reading only: QEMU takes a descriptor from a set only where its
    /// access mode is just what it wants (`fdset` in qemu(1)).
    fn read_only(&self, what: &'static str, file: &File) -> Result<OwnedFd, EngineError> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let opened = fs::File::open(path).map(|file| file.into_parts().0.into());
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
