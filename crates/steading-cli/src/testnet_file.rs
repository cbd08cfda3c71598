//! What a testnet in TOML says. It differs from a declared testnet in that a VM may name a guest
//! that is to be found on this machine; a declared one knows the files, so its plan stays pure.

use std::fmt;

use anyhow::{Context as _, bail};
use ipnet::Ipv6Net;
use schemars::JsonSchema;
use serde::Deserialize;
use steading::reference::{self, ReferenceGuest};
use steading_plan::{Boot, GuestConfig, ImageSource, Testnet, VmSpec, default_memory_mib, default_vcpus};

/// The declared VMs and network of one test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Testnet")]
pub(crate) struct TestnetFile {
    /// The VMs, in the order in which they were declared.
    #[serde(default, rename = "vm")]
    vms: Vec<VmTable>,
    /// The VMs' /64, for software that treats unique local addresses specially.
    #[schemars(with = "Option<String>")]
    prefix: Option<Ipv6Net>,
}

/// One declared VM. It says what it boots by `guest`, by `boot`, or by both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vm")]
struct VmTable {
    /// Its name, which is also its host name. Checked when the plan is derived.
    name: String,
    /// A guest that is found on this machine. What it boots and its disk are the guest's, except for
    /// what `boot` and `disk` say.
    guest: Option<Guest>,
    /// Virtual CPUs.
    #[serde(default = "default_vcpus")]
    vcpus: u32,
    /// Memory in MiB.
    #[serde(default = "default_memory_mib")]
    memory_mib: u32,
    /// What it boots.
    boot: Option<Boot>,
    /// The disk it starts from, under an overlay of its own. Only a kernel can do without.
    disk: Option<ImageSource>,
    /// Grow the disk to so many MiB; the image's own size when left out.
    disk_mib: Option<u64>,
    /// Whether it has a second network card, with an IPv4 address by DHCP.
    #[serde(default)]
    second_card: bool,
    /// Whether it has a VGA adapter, which screenshots need.
    #[serde(default)]
    display: bool,
    /// Whether it is started with the group; else by the test.
    #[serde(default = "yes")]
    autostart: bool,
    /// How it is configured.
    #[serde(default)]
    config: GuestConfig,
}

/// A guest that is found on this machine.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Guest {
    /// The reference guest: the one in `$STEADING_GUEST`, else the one that was built last.
    Reference,
}

/// This host has no such guest, which is no fault of the declaration.
#[derive(Debug)]
pub(crate) struct GuestNotFound {
    vm: String,
}

impl fmt::Display for GuestNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM {}: cannot find its guest", self.vm)
    }
}

const fn yes() -> bool {
    true
}

impl TestnetFile {
    /// The testnet, with the files of its guests. The reference guest is looked for if it is named,
    /// once.
    pub(crate) fn resolve(
        self,
        find: impl Fn() -> anyhow::Result<ReferenceGuest>,
    ) -> anyhow::Result<Testnet> {
        let reference = match self.vms.iter().find(|vm| vm.guest.is_some()) {
            Some(vm) => Some(find().with_context(|| GuestNotFound { vm: vm.name.clone() })?),
            None => None,
        };
        let vms = self.vms.into_iter().map(|vm| vm.resolve(reference.as_ref()));
        Ok(Testnet { vms: vms.collect::<anyhow::Result<_>>()?, prefix: self.prefix })
    }
}

impl VmTable {
    fn resolve(self, reference: Option<&ReferenceGuest>) -> anyhow::Result<VmSpec> {
        let guest = match self.guest {
            Some(Guest::Reference) => reference.map(|guest| guest.vm(&self.name)),
            None => None,
        };
        let (guest_boot, guest_disk) = guest.map(|spec| (spec.boot, spec.disk)).unzip();
        let Some(boot) = self.boot.or(guest_boot) else {
            bail!(
                "VM {}: neither `boot` nor `guest` is given\n\
                 hint: `guest = \"reference\"` is the quickest way to a guest",
                self.name
            );
        };
        Ok(VmSpec {
            name: self.name,
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            boot,
            disk: self.disk.or(guest_disk.flatten()),
            disk_mib: self.disk_mib,
            second_card: self.second_card,
            display: self.display,
            autostart: self.autostart,
            config: self.config,
        })
    }
}

/// The reference guest of this machine.
pub(crate) fn installed() -> anyhow::Result<ReferenceGuest> {
    reference::guest()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `guest/build` leaves one; dropped with the directory.
    fn reference_guest(dir: &tempfile::TempDir) -> ReferenceGuest {
        let manifest = r#"{"kernel": "vmlinuz", "initrd": "initrd", "disk": "disk", "cmdline": "quiet"}"#;
        fs_err::write(dir.path().join("manifest.json"), manifest).unwrap();
        reference::guest_in(camino::Utf8Path::from_path(dir.path()).unwrap()).unwrap()
    }

    fn resolved(text: &str) -> anyhow::Result<Testnet> {
        let dir = tempfile::tempdir().unwrap();
        let guest = reference_guest(&dir);
        toml::from_str::<TestnetFile>(text).unwrap().resolve(|| Ok(guest.clone()))
    }

    #[test]
    fn the_reference_guest_has_its_kernel_and_disk() {
        let testnet = resolved("[[vm]]\nname = \"n1\"\nguest = \"reference\"\n").unwrap();
        let vm = &testnet.vms[0];
        assert!(matches!(&vm.boot, Boot::Kernel { cmdline, .. } if cmdline == "quiet"), "{vm:?}");
        assert!(vm.disk.as_ref().is_some_and(|disk| disk.path.ends_with("disk")), "{vm:?}");
        assert_eq!((vm.vcpus, vm.memory_mib, vm.autostart), (1, 512, true));
    }

    #[test]
    fn what_is_said_beside_a_guest_prevails() {
        let text = "[[vm]]\nname = \"n1\"\nguest = \"reference\"\nboot = \"uefi\"\n\
                    [[vm]]\nname = \"n2\"\nguest = \"reference\"\ndisk = { path = \"own\" }\n";
        let testnet = resolved(text).unwrap();
        assert_eq!(testnet.vms[0].boot, Boot::Uefi);
        assert!(testnet.vms[0].disk.is_some());
        assert_eq!(testnet.vms[1].disk.as_ref().unwrap().path, "own");
    }

    #[test]
    fn a_vm_with_nothing_to_boot_is_refused_with_advice() {
        let error = resolved("[[vm]]\nname = \"n1\"\n").unwrap_err().to_string();
        assert!(error.starts_with("VM n1: neither `boot` nor `guest`") && error.contains("hint:"), "{error}");
    }

    #[test]
    fn no_guest_is_looked_for_unless_one_is_named() {
        let file: TestnetFile = toml::from_str("[[vm]]\nname = \"n1\"\nboot = \"bios\"\n").unwrap();
        assert_eq!(file.resolve(|| bail!("none was asked for")).unwrap().vms.len(), 1);
    }

    #[test]
    fn a_guest_that_is_not_built_is_told_with_its_vm() {
        let file: TestnetFile = toml::from_str("[[vm]]\nname = \"n1\"\nguest = \"reference\"\n").unwrap();
        let error = file.resolve(|| bail!("not built")).unwrap_err();
        assert_eq!(format!("{error:#}"), "VM n1: cannot find its guest: not built");
    }

    /// The defaults of the file are those of the library.
    #[test]
    fn a_vm_of_which_nothing_more_is_said_is_that_of_the_library() {
        let testnet = resolved("[[vm]]\nname = \"n1\"\nboot = \"bios\"\n").unwrap();
        assert_eq!(testnet.vms, [VmSpec::new("n1", Boot::Bios)]);
    }
}
