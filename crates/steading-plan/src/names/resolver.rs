//! Addresses of public resolvers that guests have built in, and at which the group answers.

use std::net::IpAddr;

use thiserror::Error;

use crate::AddressPlan;

/// An address at which the group cannot answer as a resolver.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ResolverError {
    /// Among the VMs.
    #[error(
        "the resolver {0} cannot be claimed: it is among the VMs' own addresses\nhint: it would be asked on the bridge, where nobody else answers for it; let the VM that has it serve names"
    )]
    Inside(IpAddr),
    /// No host can have it.
    #[error(
        "the resolver {0} cannot be claimed: it is multicast, loopback, link-local or nobody's\nhint: what is asked there never leaves the guest, or goes to no single host"
    )]
    Kind(IpAddr),
}

/// Refuses an address that cannot be claimed.
///
/// # Errors
///
/// When it is among the VMs, or no host's.
pub fn check_resolver(addresses: &AddressPlan, resolver: IpAddr) -> Result<(), ResolverError> {
    let (is_inside, is_no_hosts) = match resolver {
        IpAddr::V4(address) => {
            let is_no_hosts = address.is_multicast()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast();
            (addresses.ipv4.contains(&address), is_no_hosts)
        }
        IpAddr::V6(address) => {
            (addresses.prefix.contains(&address), addresses.check_source(address).is_err())
        }
    };
    match (is_inside, is_no_hosts) {
        (true, _) => Err(ResolverError::Inside(resolver)),
        (false, true) => Err(ResolverError::Kind(resolver)),
        (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_outside_of_the_group_can_be_claimed_and_no_others() {
        let plan = AddressPlan::derive(&"g".parse().unwrap(), None).unwrap();
        let check = |text: &str| check_resolver(&plan, text.parse().unwrap());
        for resolver in ["8.8.8.8", "2001:4860:4860::8888", "192.168.1.1", "fd12::1"] {
            assert_eq!(check(resolver), Ok(()), "{resolver}");
        }
        for nobodys in ["127.0.0.53", "::1", "ff02::fb", "224.0.0.251", "fe80::1", "0.0.0.0", "169.254.1.1"] {
            assert!(matches!(check(nobodys), Err(ResolverError::Kind(_))), "{nobodys}");
        }
        for inside in [IpAddr::from(plan.gateway), plan.ipv4_gateway.into()] {
            assert_eq!(check_resolver(&plan, inside), Err(ResolverError::Inside(inside)));
        }
    }
}
