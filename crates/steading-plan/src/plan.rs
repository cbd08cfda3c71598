//! The plan: all that follows from a declared testnet and the name of its group.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addressing::Addressing;
use crate::channels;
use crate::command::Launch;
use crate::declaration;
use crate::dnsmasq;
use crate::engine::Engine;
use crate::engines::{Capabilities, Guests};
use crate::facts::{HostFacts, QemuFacts};
use crate::nested;
use crate::plan_error::PlanError;
use crate::resources::{HostResources, ResourceError, Resources, memory_sum, strain};
use crate::static_addresses;
use crate::vm_plan::VmPlan;
use crate::{
    AddressPlan, Boot, FileSource, GroupName, IfName, MacAddr, Record, RecordError, Sha256, Testnet, VmName,
    VmSpec, Zone, check_resolver,
};

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
    /// Names that its DNS knows from the beginning, in addition to those of VMs.
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

impl Plan {
    /// Derives the plan of a testnet.
    ///
    /// # Errors
    ///
    /// When a name or prefix is none, when two VMs have the same, or when it can never fit.
    pub fn derive(group: &GroupName, testnet: &Testnet, host: &HostFacts) -> Result<Self, PlanError> {
        let addresses = AddressPlan::derive(group, testnet.prefix)?;
        let mut vms: Vec<VmPlan> =
            testnet.vms.iter().map(|spec| vm_plan(group, &addresses, spec)).collect::<Result<_, _>>()?;
        check_distinct(&vms)?;
        let with_second = vms.iter_mut().filter(|vm| vm.second_mac.is_some());
        for (vm, address) in with_second.zip(addresses.second_addresses()) {
            vm.second_address = Some(address);
        }
        if testnet.addressing == Addressing::Static {
            for vm in &mut vms {
                static_addresses::tell(vm, &addresses);
            }
        }
        let mut files = testnet.files.clone();
        files.extend(nested::tell(&mut vms, &addresses)?);
        let most = host.engine.capabilities().fw_cfg_files;
        vms.iter().try_for_each(|vm| channels::check(vm, &host.qemu, host.engine, most))?;
        for (index, vm) in (0..).zip(&mut vms) {
            check_support(vm, host.engine)?;
            vm.launch = Launch::derive(index, vm, host)?;
        }
        check_files(&files)?;
        let (records, resolvers) = (testnet.records.clone(), testnet.resolvers.clone());
        resolvers.iter().try_for_each(|resolver| check_resolver(&addresses, *resolver))?;
        Zone::new(&addresses, &vms, &records, resolvers.iter().copied())?;
        Resources::check_declared(&testnet.vms)?;
        let resources = match host.engine.capabilities().guests {
            Guests::Booted => Resources::of(&testnet.vms),
            Guests::Scripted => Resources::default(),
        };
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
        match self.engine.capabilities().guests {
            Guests::Booted => strain(&self.specs(), host),
            Guests::Scripted => None,
        }
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
        self.engine.capabilities().no_freeze.or(has_nested
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

fn vm_plan(group: &GroupName, addresses: &AddressPlan, spec: &VmSpec) -> Result<VmPlan, PlanError> {
    let name: VmName = spec.name.parse()?;
    declaration::check(&name, spec)?;
    check_spec(&name, spec)?;
    let mac = MacAddr::of_vm(group, &name);
    Ok(VmPlan {
        mac,
        tap: IfName::tap(group, &name),
        address: mac.slaac(addresses.prefix),
        second_mac: spec.second_card.then(|| MacAddr::of_second_card(group, &name)),
        second_tap: spec.second_card.then(|| IfName::second_tap(group, &name)),
        second_address: None,
        uuid: uuid(group, &name),
        spec: spec.clone(),
        launch: Launch::default(),
        name,
    })
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

/// Checks what a VM asks of its engine.
fn check_support(vm: &VmPlan, engine: Engine) -> Result<(), PlanError> {
    let Capabilities { no_display, no_nested, .. } = engine.capabilities();
    let asked = [
        (vm.spec.display, "has a display", no_display),
        (vm.spec.inside.is_some(), "runs inside another VM", no_nested),
    ];
    match asked.into_iter().find_map(|(asks, what, no)| Some((what, no.filter(|_| asks)?))) {
        Some((what, why)) => Err(PlanError::Unsupported { vm: vm.name.clone(), what, why }),
        None => Ok(()),
    }
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
