//! The addresses of a group, derived from its name.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{GroupName, IfName, MacAddr, Sha256};

/// The metric of the kernel's own connected routes (`IP6_RT_PRIO_KERN`, `net/ip6_route.h`).
///
/// The source route must have just this metric: it replaces the kernel's route, where one with
/// the default metric of 1024 would lose to it.
pub const KERNEL_ROUTE_METRIC: u32 = 256;

/// A prefix that cannot be a group's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrefixError {
    /// Not a /64.
    #[error(
        "the prefix {prefix} is not a /64\nhint: SLAAC needs 64 bits for the interface identifier (RFC 4862); write {network}/64"
    )]
    Length {
        /// What was asked for.
        prefix: Ipv6Net,
        /// Its network address.
        network: Ipv6Addr,
    },
    /// Multicast, loopback or link-local.
    #[error(
        "hosts cannot have addresses in {0}: it is multicast, loopback, link-local or IPv4-mapped\nhint: leave the prefix out for a unique local one, or use one from 2000::/3 or fc00::/7"
    )]
    Kind(Ipv6Net),
    /// No room for the driver's three subnets behind it.
    #[error(
        "the prefix {0} leaves no room for the three subnets behind it, where the driver's addresses lie\nhint: the fourth group of digits must be at most fffc"
    )]
    NoRoom(Ipv6Net),
}

/// An address that the driver cannot speak from.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// Among the VMs.
    #[error(
        "the driver cannot have the address {address}: it is in the VMs' own {prefix}\nhint: take one outside; what comes from inside is best sent by another VM"
    )]
    Inside {
        /// What was asked for.
        address: Ipv6Addr,
        /// The VMs' /64.
        prefix: Ipv6Net,
    },
    /// No host can have it.
    #[error(
        "the driver cannot have the address {0}: it is multicast, loopback, link-local or IPv4-mapped\nhint: take one from 2000::/3 or fc00::/7"
    )]
    Kind(Ipv6Addr),
}

/// Every address of a group that does not belong to one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// The bridge that all TAPs are ports of.
    pub bridge: IfName,
    /// The bridge's own hardware address.
    pub bridge_mac: MacAddr,
    /// The /64 of the VMs.
    pub prefix: Ipv6Net,
    /// The VMs' default router: the bridge's own address, `<prefix>::1`.
    pub gateway: Ipv6Addr,
    /// Where the test's own traffic comes from: in the next subnet, outside the VMs' /64.
    pub management: Ipv6Addr,
    /// Where log streams come from.
    pub logs: Ipv6Addr,
    /// Where the file server listens.
    pub files: Ipv6Addr,
    /// The /24 of the second cards.
    pub ipv4: Ipv4Net,
    /// The bridge's IPv4 address: `.1`.
    pub ipv4_gateway: Ipv4Addr,
    /// The addresses given by DHCP, to each second card a fixed one: `.2` to `.254`.
    pub ipv4_range: (Ipv4Addr, Ipv4Addr),
    /// The DNS domain of the group.
    pub domain: String,
}

impl AddressPlan {
    /// The addresses of second cards, in the order in which they are given.
    pub(crate) fn second_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = self.ipv4_range;
        (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits)
    }

    /// Derives the addresses of a group, in its own unique local prefix or in the one asked for.
    pub fn derive(group: &GroupName, prefix: Option<Ipv6Net>) -> Result<Self, PrefixError> {
        let prefix = match prefix {
            Some(prefix) => checked(prefix)?,
            None => unique_local(group),
        };
        let digest = Sha256::of(format!("ipv4/{group}"));
        let [x, y, ..] = *digest.as_bytes();
        let ipv4 = |last| Ipv4Addr::new(10, x, y, last);
        let beyond = |subnet| outside(prefix, subnet).ok_or(PrefixError::NoRoom(prefix));
        Ok(Self {
            bridge: IfName::bridge(group),
            bridge_mac: MacAddr::of_bridge(group),
            prefix,
            gateway: host(prefix, 1),
            management: beyond(1)?,
            logs: beyond(2)?,
            files: beyond(3)?,
            ipv4: Ipv4Net::new_assert(ipv4(0), 24),
            ipv4_gateway: ipv4(1),
            ipv4_range: (ipv4(2), ipv4(254)),
            domain: format!("{group}.test"),
        })
    }

    /// Refuses an address that the driver cannot have in addition to its own.
    ///
    /// # Errors
    ///
    /// When it is among the VMs, or no host's.
    pub fn check_source(&self, source: Ipv6Addr) -> Result<(), SourceError> {
        if self.prefix.contains(&source) {
            return Err(SourceError::Inside { address: source, prefix: self.prefix });
        }
        if is_no_hosts(source) { Err(SourceError::Kind(source)) } else { Ok(()) }
    }

    /// The driver's own addresses, each a /128 on `lo`.
    pub const fn driver_addresses(&self) -> [Ipv6Addr; 3] {
        [self.management, self.logs, self.files]
    }
}

/// `fd00:h0h1:h2h3::/64`. RFC 4193 wants a random global identifier: the digest is one.
fn unique_local(group: &GroupName) -> Ipv6Net {
    let digest = Sha256::of(group.as_str());
    let [h0, h1, h2, h3, ..] = *digest.as_bytes();
    let address =
        Ipv6Addr::new(0xfd00, u16::from_be_bytes([h0, h1]), u16::from_be_bytes([h2, h3]), 0, 0, 0, 0, 0);
    Ipv6Net::new_assert(address, 64)
}

fn checked(prefix: Ipv6Net) -> Result<Ipv6Net, PrefixError> {
    let network = prefix.network();
    if prefix.prefix_len() != 64 {
        return Err(PrefixError::Length { prefix, network });
    }
    if is_no_hosts(network) {
        return Err(PrefixError::Kind(prefix));
    }
    Ok(prefix.trunc())
}

/// Whether no host can have such an address: multicast, link-local, or of the block of loopback.
fn is_no_hosts(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    address.is_multicast() || first & 0xffc0 == 0xfe80 || first == 0
}

fn host(prefix: Ipv6Net, number: u128) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix.network()) | number)
}

/// Host 1 of the subnet so many /64s behind the prefix; `None` when that would leave its /48.
fn outside(prefix: Ipv6Net, subnet: u16) -> Option<Ipv6Addr> {
    let [a, b, c, d, ..] = prefix.network().segments();
    let subnet = d.checked_add(subnet)?;
    Some(Ipv6Addr::new(a, b, c, subnet, 0, 0, 0, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_can_speak_from_anywhere_but_the_vms_own_net() {
        let plan = AddressPlan::derive(&"g".parse().unwrap(), None).unwrap();
        let inside = host(plan.prefix, 77);
        assert!(matches!(plan.check_source(inside), Err(SourceError::Inside { .. })));
        for none in ["::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(matches!(plan.check_source(none.parse().unwrap()), Err(SourceError::Kind(_))), "{none}");
        }
        assert_eq!(plan.check_source("2001:db8:77::1".parse().unwrap()), Ok(()));
        assert_eq!(plan.check_source(plan.management), Ok(()));
    }
}
