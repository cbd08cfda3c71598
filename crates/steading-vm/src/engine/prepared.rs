//! What a VM starts from, before anything of it is open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_plan::{Boot, Handle, Sha256, VmName, VmPlan};

use super::error::EngineError;
use crate::disk::check_config_dir;
use crate::image::{Image, ImageCache, Progress};

/// Where Debian's package `ovmf` puts the UEFI variables that each VM gets a copy of.
pub const FIRMWARE_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// A VM whose image is in the cache and whose inputs were found good. Nothing of it is open yet.
#[derive(Clone, Debug, Default)]
pub struct PreparedVm {
    pub(super) image: Option<Image>,
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
pub(super) fn prepare(
    vm: &VmPlan,
    cache: &ImageCache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedVm, EngineError> {
    if !vm.launch.boots_files() {
        return Ok(PreparedVm::default());
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

pub(super) fn open(vm: &VmName, what: &'static str, path: &Utf8Path) -> Result<File, EngineError> {
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
