//! Which wires are to be lengthened, for all faults that are active, and by what.
//!
//! The bridge can drop frames, but not hold them. Where some are to be held, the TAP is not a port of
//! the bridge any more: a relay of the owner is between them, and its outer end is the port.

use std::collections::{BTreeMap, BTreeSet};

use crate::{IfName, MacAddr, Plan};

use super::{Direction, Effect, Fault};

/// Every wire that has a relay, by its TAP.
pub type Wiring = BTreeMap<IfName, Wire>;

/// What happens to frames between a TAP and the bridge.
#[derive(Clone, Debug, PartialEq)]
pub struct Wire {
    /// The bridge of which the TAP and the relay's inner end are the ports.
    pub bridge: IfName,
    /// The relay's end on the side of the VM.
    pub inner: IfName,
    /// The relay's end on the side of the group's bridge, a port of that in place of the TAP.
    pub outer: IfName,
    /// What happens to frames that the VM sends, one after the other.
    pub sent: Vec<Impairment>,
    /// What happens to frames that it receives.
    pub received: Vec<Impairment>,
}

/// What happens to some frames on a wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// Those that come from these cards; all, if there are none.
    pub sources: BTreeSet<MacAddr>,
    /// What.
    pub effect: Effect,
}

impl Wire {
    fn of(tap: &IfName) -> Self {
        Self {
            bridge: IfName::wire("wbr-", tap),
            inner: IfName::wire("win-", tap),
            outer: IfName::wire("wou-", tap),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }
}

/// The wires for these faults of this group, each of which was checked.
pub fn derive<'a>(plan: &Plan, faults: impl IntoIterator<Item = &'a Fault>) -> Wiring {
    let mut wiring = Wiring::new();
    for fault in faults.into_iter().filter(|fault| fault.effect.holds_frames()) {
        if matches!(fault.direction, Direction::Both | Direction::Sent) {
            add(&mut wiring, plan, fault, &fault.vms, &fault.peers);
        }
        if matches!(fault.direction, Direction::Both | Direction::Received) {
            add(&mut wiring, plan, fault, &fault.peers, &fault.vms);
        }
    }
    wiring
}

/// Adds what is sent from the ones to the others. Where it matters to whom, it is met where it is
/// received: the bridge has decided by then which ports a frame is for.
fn add(wiring: &mut Wiring, plan: &Plan, fault: &Fault, from: &[String], to: &[String]) {
    let cards = |names: &[String]| {
        let plans: Vec<_> = names.iter().filter_map(|name| plan.vm(name)).collect();
        plans.into_iter().flat_map(|vm| {
            let macs = [Some(vm.mac), vm.second_mac];
            vm.taps()
                .zip(macs.into_iter().flatten())
                .map(|((_, tap), mac)| (tap.clone(), mac))
                .collect::<Vec<_>>()
        })
    };
    let impairment = |sources| Impairment { sources, effect: fault.effect };
    if to.is_empty() {
        for (tap, _) in cards(from) {
            wiring
                .entry(tap.clone())
                .or_insert_with(|| Wire::of(&tap))
                .sent
                .push(impairment(BTreeSet::new()));
        }
        return;
    }
    let sources: BTreeSet<MacAddr> = cards(from).map(|(_, mac)| mac).collect();
    for (tap, _) in cards(to) {
        let wire = wiring.entry(tap.clone()).or_insert_with(|| Wire::of(&tap));
        wire.received.push(impairment(sources.clone()));
    }
}
