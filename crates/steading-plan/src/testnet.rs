//! What a test declares: the VMs it wants and how they start.

use std::collections::BTreeMap;
use std::net::IpAddr;

use camino::Utf8PathBuf;
use ipnet::Ipv6Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Addressing, FileSource, ImageSource, Record, VmName};

/// The declared VMs and network of one test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Testnet {
    /// The VMs, in the order in which they were declared.
    #[serde(default, rename = "vm")]
    pub vms: Vec<VmSpec>,
    /// The VMs' /64, for software that treats unique local addresses specially.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ipv6Net>,
    /// How guests get their addresses.
    #[serde(default, skip_serializing_if = "Addressing::is_router")]
    pub addressing: Addressing,
    /// What the group's file server offers to VMs.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSource>,
    /// Names that the group's DNS knows in addition to those of VMs.
    #[serde(default, rename = "record", skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Record>,
    /// Addresses at which the group's DNS answers, too: those of resolvers that guests have built in.
    #[serde(default, rename = "resolver", skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
}

impl Testnet {
    /// A testnet without any VM yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same testnet with one more VM.
    #[must_use]
    pub fn vm(mut self, vm: VmSpec) -> Self {
        self.vms.push(vm);
        self
    }

    /// The same testnet with several more VMs.
    #[must_use]
    pub fn vms(mut self, vms: impl IntoIterator<Item = VmSpec>) -> Self {
        self.vms.extend(vms);
        self
    }

    /// The same testnet with one more file that its VMs can download.
    #[must_use]
    pub fn file(mut self, file: impl Into<FileSource>) -> Self {
        self.files.push(file.into());
        self
    }

    /// The same testnet, whose guests get their addresses in this way.
    #[must_use]
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// The same testnet with one more name in its DNS.
    #[must_use]
    pub fn record(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// The same testnet, whose DNS also answers at this address: that of a resolver that guests have built
    /// in.
    #[must_use]
    pub fn resolver(mut self, address: impl Into<IpAddr>) -> Self {
        self.resolvers.push(address.into());
        self
    }

    /// The same testnet in another /64.
    #[must_use]
    pub fn prefix(mut self, prefix: Ipv6Net) -> Self {
        self.prefix = Some(prefix);
        self
    }
}

/// One declared VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Its name, which is also its host name. Checked when the plan is derived.
    pub name: String,
    /// Virtual CPUs.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// Memory in MiB.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
    /// What it boots.
    pub boot: Boot,
    /// The disk it starts from, under an overlay of its own. Only a kernel can do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ImageSource>,
    /// Grow the disk to so many MiB; the image's own size when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// Whether it has a second network card, with an IPv4 address by DHCP.
    #[serde(default)]
    pub second_card: bool,
    /// Whether it has a VGA adapter, which screenshots need.
    #[serde(default)]
    pub display: bool,
    /// The VM that it runs inside of, which is to run it: its frames come by that VM's card. It takes its
    /// memory and vCPUs from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// Whether it is started with the group; else by the test.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// Whether it boots again by itself after a panic of its kernel, so that waits go on. Else a panic ends
    /// them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboots_on_panic: bool,
    /// The TCP ports at which it tells its metrics, at the path `/metrics`. While the VM is on, the group's
    /// file server lists them for Prometheus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<u16>,
    /// How it is configured.
    #[serde(default)]
    pub config: GuestConfig,
}

/// How many virtual CPUs a VM has unless it is said.
pub const fn default_vcpus() -> u32 {
    1
}

/// How much memory a VM has unless it is said, in MiB.
pub const fn default_memory_mib() -> u32 {
    512
}

const fn yes() -> bool {
    true
}

impl VmSpec {
    /// A VM with 1 vCPU and 512 MiB that boots in this way.
    pub fn new(name: impl Into<String>, boot: Boot) -> Self {
        Self {
            name: name.into(),
            vcpus: default_vcpus(),
            memory_mib: default_memory_mib(),
            boot,
            disk: None,
            disk_mib: None,
            second_card: false,
            display: false,
            inside: None,
            autostart: true,
            reboots_on_panic: false,
            metrics: Vec::new(),
            config: GuestConfig::default(),
        }
    }

    /// The same VM, starting from this disk.
    #[must_use]
    pub fn disk(mut self, disk: ImageSource) -> Self {
        self.disk = Some(disk);
        self
    }

    /// The same VM with so many virtual CPUs.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// The same VM with so many MiB of memory.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The same VM with a second card.
    #[must_use]
    pub fn second_card(mut self) -> Self {
        self.second_card = true;
        self
    }

    /// The same VM with a VGA adapter.
    #[must_use]
    pub fn display(mut self) -> Self {
        self.display = true;
        self
    }

    /// The same VM, run by another VM of the testnet, which must know how (`guest/host` does), on the
    /// group's network.
    #[must_use]
    pub fn inside(mut self, host: impl Into<String>) -> Self {
        self.inside = Some(host.into());
        self
    }

    /// The same VM, not started with the group.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.autostart = false;
        self
    }

    /// The same VM, which boots again by itself after a panic of its kernel (`panic=` on the kernel's
    /// command line): a panic ends no wait for it.
    #[must_use]
    pub fn reboots_on_panic(mut self) -> Self {
        self.reboots_on_panic = true;
        self
    }

    /// The same VM, telling its metrics at one more TCP port.
    #[must_use]
    pub fn metrics(mut self, port: u16) -> Self {
        self.metrics.push(port);
        self
    }

    /// The same VM with this configuration.
    #[must_use]
    pub fn config(mut self, config: GuestConfig) -> Self {
        self.config = config;
        self
    }
}

/// What a VM boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Boot {
    /// UEFI firmware (OVMF), with variables of its own for each VM.
    Uefi,
    /// BIOS firmware (SeaBIOS).
    Bios,
    /// A Linux kernel, loaded by QEMU itself.
    Kernel {
        /// The kernel: a bzImage, or an ELF file with a PVH entry, which starts sooner.
        #[schemars(with = "String")]
        kernel: Utf8PathBuf,
        /// The initial file system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        initrd: Option<Utf8PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
}

/// How a guest is told what it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuestConfig {
    /// A directory that becomes a disk labelled `CONFIG`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub config_dir: Option<Utf8PathBuf>,
    /// A cloud-init NoCloud disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// An Ignition configuration (JSON), given over fw_cfg as `opt/com.coreos/config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignition: Option<String>,
    /// systemd credentials, given over SMBIOS (systemd.system-credentials(7)).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, String>,
}

/// The files of a cloud-init NoCloud disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// `user-data`, such as a `#cloud-config`.
    pub user_data: String,
    /// `meta-data`; an instance id and the VM's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    /// `network-config`, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
}

impl GuestConfig {
    /// The name of this VM's meta-data when none is given.
    pub fn default_meta_data(vm: &VmName) -> String {
        format!("instance-id: {vm}\nlocal-hostname: {vm}\n")
    }
}
