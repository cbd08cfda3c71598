//! The plan of one VM.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::command::Launch;
use crate::handle::Handle;
use crate::{Boot, IfName, MacAddr, VmName, VmSpec};

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
    /// How it is started.
    pub launch: Launch,
}

impl VmPlan {
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
