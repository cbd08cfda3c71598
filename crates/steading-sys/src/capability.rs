//! The three capabilities that a group needs, and the dropping of all others (capabilities(7)).

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_ambient_set, configure_capability_in_ambient_set,
    set_capabilities,
};

/// What a group may do in its own network namespace: change interfaces, open raw sockets (router
/// advertisements are ICMPv6), listen on ports below 1024 (DHCP, DNS).
pub const NETWORK: CapabilitySet =
    CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::NET_BIND_SERVICE);

const EACH: [CapabilitySet; 3] =
    [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW, CapabilitySet::NET_BIND_SERVICE];

/// Keeps the three in every set, the ambient one included, so that they outlive an exec, and drops
/// all others.
pub fn keep_network_only() -> io::Result<()> {
    let sets = CapabilitySets { effective: NETWORK, permitted: NETWORK, inheritable: NETWORK };
    set_capabilities(None, sets)?;
    for capability in EACH {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Drops all from the ambient set, so that the next program has none.
pub fn clear_ambient() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    Ok(())
}

/// Whether the three would outlive an exec.
pub fn network_is_ambient() -> bool {
    EACH.into_iter().all(|capability| capability_is_in_ambient_set(capability).unwrap_or(false))
}
