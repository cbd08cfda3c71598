//! The plan: all that follows from a declared testnet and the name of its group.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::addressing::{self, Addressing};
use crate::channels::{self, ChannelError};
use crate::declaration::{self, DeclarationError};
use crate::dnsmasq;
use crate::domain::{Domain, Held, unspeakable};
use crate::engine::Engine;
use crate::nested::{self, NestedError};
use crate::qemu::{Beginning, QemuCommand, QemuFacts};
use crate::resources::{HostResources, ResourceError, Resources, memory_sum, strain};
use crate::{
    AddressPlan, Boot, FileNameError, FileSource, GroupName, Handle, IfName, MacAddr, NameError, PrefixError,
    Record, RecordError, ResolverError, Sha256, Testnet, VmName, VmSpec, Zone, check_resolver,
};

/// A testnet that cannot be planned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A prefix that cannot be one.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// A file's name that cannot be one.
    #[error(transparent)]
    FileName(#[from] FileNameError),
    /// Two files of one name.
    #[error(
        "two files are to be served as {name:?}: {first} and {second}\nhint: give one of them another name, with `name`"
    )]
    DuplicateFile {
        /// The name.
        name: String,
        /// The one file.
        first: Utf8PathBuf,
        /// The other.
        second: Utf8PathBuf,
    },
    /// A record that cannot be one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A resolver that cannot be claimed.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A value that cannot be honoured.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// A VM that cannot be inside another.
    #[error(transparent)]
    Nested(#[from] NestedError),
    /// More than a way into a guest carries.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// More than the host has.
    #[error(transparent)]
    Resources(#[from] ResourceError),
    /// Two VMs of one name.
    #[error(
        "two VMs are named {0}: VMs {1} and {2} in the order of declaration\nhint: a VM's name is its host name and the seed of its address; give each its own"
    )]
    Duplicate(VmName, usize, usize),
    /// Two names whose digests begin alike.
    #[error(
        "the names {0} and {1} lead to the same {2}\nhint: rename one of them; this happens to one pair in millions"
    )]
    Collision(VmName, VmName, &'static str),
    /// Firmware has nothing to boot.
    #[error("VM {0} boots by firmware and has no disk\nhint: give it a disk, or boot a kernel")]
    NoDisk(VmName),
    /// A credential's name that would not reach the guest whole.
    #[error(
        "VM {vm} has a credential named {name:?}\nhint: credential names are file names without '=', ':' or '/' (systemd.exec(5))"
    )]
    Credential {
        /// The VM.
        vm: VmName,
        /// The name.
        name: String,
    },
    /// A text that XML cannot hold.
    #[error(
        "VM {vm}: {what} holds the character {character:?}, which a libvirt domain cannot\nhint: encode it, or use the engine qemu"
    )]
    Unspeakable {
        /// The VM.
        vm: VmName,
        /// Where it is.
        what: &'static str,
        /// The character.
        character: char,
    },
    /// A text that QEMU or the kernel would cut short.
    #[error("VM {vm}: {what} holds a NUL byte\nhint: command lines end at a NUL; remove it")]
    Nul {
        /// The VM.
        vm: VmName,
        /// Where it is.
        what: &'static str,
    },
}

/// Facts about the host that a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// What its QEMU is like.
    pub qemu: QemuFacts,
    /// What is to run VMs.
    pub engine: Engine,
}

/// Everything about a group, before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The group's name, from which all else is derived.
    pub group: GroupName,
    /// Addresses that belong to no single VM.
    pub addresses: AddressPlan,
    /// The VMs, in the order of their declaration.
    pub vms: Vec<VmPlan>,
    /// What the file server offers from the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSource>,
    /// Names that its DNS knows from the beginning, beside those of VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Record>,
    /// Addresses of resolvers at which it answers from the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// What it all needs.
    pub resources: Resources,
    /// What the host's QEMU is like.
    pub qemu: QemuFacts,
    /// What runs the VMs.
    #[serde(default, skip_serializing_if = "Engine::is_default")]
    pub engine: Engine,
    /// The router daemon's configuration.
    pub dnsmasq: Option<String>,
}

/// Everything about one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPlan {
    /// Its name.
    pub name: VmName,
    /// The address of its first card.
    pub mac: MacAddr,
    /// The TAP of its first card.
    pub tap: IfName,
    /// Its IPv6 address: the prefix and the EUI-64 of the MAC.
    pub address: Ipv6Addr,
    /// The address of its second card, if it has one.
    pub second_mac: Option<MacAddr>,
    /// The TAP of its second card, if it has one.
    pub second_tap: Option<IfName>,
    /// The address that its second card gets by DHCP, if it has one: in the order of declaration.
    pub second_address: Option<Ipv4Addr>,
    /// The machine's UUID, from SHA-256(uuid/group/vm); version 8 (RFC 9562, section 5.8).
    pub uuid: String,
    /// As it was declared.
    pub spec: VmSpec,
    /// Its QEMU process.
    pub qemu: QemuCommand,
    /// What libvirt is told of it, where the engine is libvirt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

impl Plan {
    /// Derives the plan of a testnet.
    ///
    /// # Errors
    ///
    /// When a name or prefix is none, when two VMs have the same, or when it can never fit.
    pub fn derive(group: &GroupName, testnet: &Testnet, host: &HostFacts) -> Result<Self, PlanError> {
        let addresses = AddressPlan::derive(group, testnet.prefix)?;
        let mut vms: Vec<VmPlan> = testnet
            .vms
            .iter()
            .map(|spec| VmPlan::derive(group, &addresses, spec))
            .collect::<Result<_, _>>()?;
        check_distinct(&vms)?;
        let with_second = vms.iter_mut().filter(|vm| vm.second_mac.is_some());
        for (vm, address) in with_second.zip(addresses.second_addresses()) {
            vm.second_address = Some(address);
        }
        if testnet.addressing == Addressing::Static {
            for vm in &mut vms {
                addressing::tell(vm, &addresses);
            }
        }
        let mut files = testnet.files.clone();
        files.extend(nested::tell(&mut vms, &addresses)?);
        vms.iter().try_for_each(|vm| channels::check(vm, &host.qemu, host.engine))?;
        for (index, vm) in (0..).zip(&mut vms).filter(|(_, vm)| vm.spec.inside.is_none()) {
            match host.engine {
                Engine::Qemu => vm.qemu = QemuCommand::derive(vm, &host.qemu, Beginning::default()),
                Engine::Libvirt => {
                    check_speakable(vm)?;
                    vm.domain = Some(Domain::derive(index, vm, &host.qemu, &Held::planned()));
                }
            }
        }
        check_files(&files)?;
        let (records, resolvers) = (testnet.records.clone(), testnet.resolvers.clone());
        resolvers.iter().try_for_each(|resolver| check_resolver(&addresses, *resolver))?;
        Zone::new(&addresses, &vms, &records, resolvers.iter().copied())?;
        Resources::check_declared(&testnet.vms)?;
        let resources = Resources::of(&testnet.vms);
        let second_cards = vms.iter().filter_map(|vm| Some((vm.second_mac?, vm.second_address)));
        let dnsmasq = dnsmasq::configuration(&addresses, testnet.addressing, second_cards);
        Ok(Self {
            group: group.clone(),
            addresses,
            vms,
            files,
            records,
            resolvers,
            resources,
            qemu: host.qemu.clone(),
            engine: host.engine,
            dnsmasq,
        })
    }

    /// Refuses what can never fit on this host. A plan itself is made for any testnet.
    ///
    /// # Errors
    ///
    /// When it has less memory than this needs.
    pub fn check(&self, host: HostResources) -> Result<(), ResourceError> {
        self.resources.check(&self.specs(), host)
    }

    /// A warning, when a VM asks for more than this host does well.
    pub fn strain(&self, host: HostResources) -> Option<String> {
        strain(&self.specs(), host)
    }

    fn specs(&self) -> Vec<VmSpec> {
        self.vms.iter().map(|vm| vm.spec.clone()).collect()
    }

    /// How the memory that it needs adds up, for people.
    pub fn memory_sum(&self) -> String {
        memory_sum(self.vms.iter().map(|vm| &vm.spec))
    }

    /// The table of its names with these records, at which these resolvers are claimed.
    ///
    /// # Errors
    ///
    /// When a record cannot be one.
    pub fn zone(
        &self,
        records: &[Record],
        resolvers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Zone, RecordError> {
        Zone::new(&self.addresses, &self.vms, records, resolvers)
    }

    /// Why the group cannot be frozen, if so.
    pub fn no_freeze(&self) -> Option<&'static str> {
        let has_nested = self.vms.iter().any(|vm| vm.spec.inside.is_some());
        self.engine.no_freeze().or(has_nested
            .then_some("it has a VM inside another, and what is known of such a VM is not kept in a freeze"))
    }

    /// The VM of this name.
    pub fn vm(&self, name: &str) -> Option<&VmPlan> {
        self.vms.iter().find(|vm| vm.name.as_str() == name)
    }

    /// Which VM has which address.
    pub fn names_of_addresses(&self) -> HashMap<IpAddr, VmName> {
        let addresses = self.vms.iter().flat_map(|vm| {
            let second = vm.second_address.map(|address| (address.into(), vm.name.clone()));
            std::iter::once((vm.address.into(), vm.name.clone())).chain(second)
        });
        addresses.collect()
    }
}

impl VmPlan {
    fn derive(group: &GroupName, addresses: &AddressPlan, spec: &VmSpec) -> Result<Self, PlanError> {
        let name: VmName = spec.name.parse()?;
        declaration::check(&name, spec)?;
        check_spec(&name, spec)?;
        let mac = MacAddr::of_vm(group, &name);
        Ok(Self {
            mac,
            tap: IfName::tap(group, &name),
            address: mac.slaac(addresses.prefix),
            second_mac: spec.second_card.then(|| MacAddr::of_second_card(group, &name)),
            second_tap: spec.second_card.then(|| IfName::second_tap(group, &name)),
            second_address: None,
            uuid: uuid(group, &name),
            spec: spec.clone(),
            qemu: QemuCommand::default(),
            domain: None,
            name,
        })
    }

    /// The open files its QEMU process wants to boot, in the order of their numbers.
    pub fn handles(&self) -> Vec<Handle> {
        let config = &self.spec.config;
        let wanted = |handle: &Handle| match handle {
            Handle::Qmp
            | Handle::Console
            | Handle::Agent
            | Handle::Tap
            | Handle::Credentials
            | Handle::Memory
            | Handle::Thaw => true,
            Handle::State => false,
            Handle::SecondTap => self.second_tap.is_some(),
            Handle::Kernel => matches!(self.spec.boot, Boot::Kernel { .. }),
            Handle::Initrd => matches!(&self.spec.boot, Boot::Kernel { initrd: Some(_), .. }),
            Handle::Image | Handle::Overlay => self.spec.disk.is_some(),
            Handle::FirmwareVars => self.spec.boot == Boot::Uefi,
            Handle::ConfigDisk => config.config_dir.is_some(),
            Handle::CloudInitDisk => config.cloud_init.is_some(),
            Handle::Ignition => config.ignition.is_some(),
            Handle::Screenshot => self.spec.display,
        };
        Handle::ALL.into_iter().filter(wanted).collect()
    }

    /// systemd credentials that it is given: its own name, and what was declared.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = (&str, &str)> {
        let given = self.spec.config.credentials.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once(("system.hostname", self.name.as_str())).chain(given)
    }

    /// The TAPs of its cards, each with the handle by which QEMU knows it.
    pub fn taps(&self) -> impl Iterator<Item = (Handle, &IfName)> {
        // One inside another has the TAP that its host gives it.
        let first = self.spec.inside.is_none().then_some((Handle::Tap, &self.tap)).into_iter();
        first.chain(self.second_tap.as_ref().map(|tap| (Handle::SecondTap, tap)))
    }
}

fn check_spec(vm: &VmName, spec: &VmSpec) -> Result<(), PlanError> {
    if spec.disk.is_none() && !matches!(spec.boot, Boot::Kernel { .. }) {
        return Err(PlanError::NoDisk(vm.clone()));
    }
    for (name, value) in &spec.config.credentials {
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !"=:/,".contains(c));
        if !fits {
            return Err(PlanError::Credential { vm: vm.clone(), name: name.clone() });
        }
        if value.contains('\0') {
            return Err(PlanError::Nul { vm: vm.clone(), what: "a credential" });
        }
    }
    match &spec.boot {
        Boot::Kernel { cmdline, .. } if cmdline.contains('\0') => {
            Err(PlanError::Nul { vm: vm.clone(), what: "the kernel's command line" })
        }
        _ => Ok(()),
    }
}

/// All that goes into a domain as it was declared; names have no such characters.
fn check_speakable(vm: &VmPlan) -> Result<(), PlanError> {
    let cmdline = match &vm.spec.boot {
        Boot::Kernel { cmdline, .. } => Some(("the kernel's command line", cmdline)),
        Boot::Uefi | Boot::Bios => None,
    };
    let credentials = vm.spec.config.credentials.values().map(|value| ("a credential", value));
    for (what, text) in credentials.chain(cmdline) {
        if let Some(character) = unspeakable(text) {
            return Err(PlanError::Unspeakable { vm: vm.name.clone(), what, character });
        }
    }
    Ok(())
}

fn check_distinct(vms: &[VmPlan]) -> Result<(), PlanError> {
    let mut names = BTreeMap::new();
    let mut macs = BTreeMap::new();
    let mut taps = BTreeMap::new();
    for (index, vm) in vms.iter().enumerate() {
        if let Some(first) = names.insert(&vm.name, index + 1) {
            return Err(PlanError::Duplicate(vm.name.clone(), first, index + 1));
        }
        for mac in std::iter::once(vm.mac).chain(vm.second_mac) {
            if let Some(other) = macs.insert(mac, &vm.name) {
                return Err(PlanError::Collision(other.clone(), vm.name.clone(), "hardware address"));
            }
        }
        for (_, tap) in vm.taps() {
            if let Some(other) = taps.insert(tap, &vm.name) {
                return Err(PlanError::Collision(other.clone(), vm.name.clone(), "TAP"));
            }
        }
    }
    Ok(())
}

fn check_files(files: &[FileSource]) -> Result<(), PlanError> {
    let mut names = BTreeMap::new();
    for file in files {
        let name = file.served_name()?;
        if let Some(first) = names.insert(name, &file.path) {
            let (name, first, second) = (name.to_owned(), first.clone(), file.path.clone());
            return Err(PlanError::DuplicateFile { name, first, second });
        }
    }
    Ok(())
}

fn uuid(group: &GroupName, vm: &VmName) -> String {
    let digest = Sha256::of(format!("uuid/{group}/{vm}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
