//! Hardware addresses, and the IPv6 interface identifiers they determine.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{GroupName, Sha256, VmName};

/// A 48-bit IEEE 802 hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// A text that is not a hardware address.
#[derive(Debug, Error)]
#[error("{0:?} is not a hardware address: six pairs of hexadecimal digits with ':' between them are wanted")]
pub struct ParseMacError(String);

impl MacAddr {
    /// The address with these six bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Of a VM's first card: `6a:01:` and four bytes of SHA-256(group/vm).
    pub fn of_vm(group: &GroupName, vm: &VmName) -> Self {
        Self::derived(&format!("{group}/{vm}"))
    }

    /// Of a VM's second card: `6a:01:` and four bytes of SHA-256(ipv4/group/vm).
    pub fn of_second_card(group: &GroupName, vm: &VmName) -> Self {
        Self::derived(&format!("ipv4/{group}/{vm}"))
    }

    /// Of a group's bridge: `6a:01:` and four bytes of SHA-256(bridge/group).
    pub fn of_bridge(group: &GroupName) -> Self {
        Self::derived(&format!("bridge/{group}"))
    }

    /// The six bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// `6a` has the "locally administered" bit set and the "group" bit clear (IEEE 802-2014, 8.4.2).
    fn derived(seed: &str) -> Self {
        let digest = Sha256::of(seed);
        let [a, b, c, d, ..] = *digest.as_bytes();
        Self([0x6a, 0x01, a, b, c, d])
    }

    /// The modified EUI-64 interface identifier (RFC 4291, appendix A):
    /// `ff:fe` in the middle, the universal/local bit inverted.
    pub const fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The address that a card takes by SLAAC in this /64 (RFC 4862).
    pub fn slaac(self, prefix: Ipv6Net) -> Ipv6Addr {
        let network = u128::from(prefix.network());
        let interface = u128::from(u64::from_be_bytes(self.eui64()));
        Ipv6Addr::from(network | interface)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacAddr({self})")
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}
