//! What the kernel is to do with frames, for all faults that are active.
//!
//! A frame between two VMs passes the bridge's `forward` hook, with the port it came in by and the one
//! it leaves by; one for the host passes `input`, one from the host `output`. A frame for several
//! passes once for each port that it leaves by, so a broadcast needs no rules of its own.

use std::collections::BTreeSet;
use std::fmt;

use crate::{IfName, Plan};

use super::{Direction, Effect, Fault};

/// Chances are counted in millionths.
pub const CHANCES: u32 = 1_000_000;

/// How much may pass at once above a rate. A frame of a guest has up to 64 KiB, since guests leave
/// segmentation to the host (`GSO_LEGACY_MAX_SIZE` in `linux/netdevice.h`), and one that is larger
/// than this would never pass.
pub const BURST: u32 = 2 * 65_536;

/// All rules. Each frame meets those of its hook in order, until one drops it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// What happens to some frames at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub hook: Hook,
    /// To which frames.
    pub filter: Filter,
    /// What.
    pub verdict: Verdict,
}

/// A hook of the bridge (`linux/netfilter_bridge.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// From a port to the host.
    Input,
    /// From a port to a port.
    Forward,
    /// From the host to a port.
    Output,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 3] = [Self::Input, Self::Forward, Self::Output];

    /// As nft(8) calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// Ports; where there are none, it is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// By which frames came in.
    pub from: BTreeSet<IfName>,
    /// By which they leave.
    pub to: BTreeSet<IfName>,
}

/// What happens to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are dropped.
    Drop,
    /// So many of a million are dropped, by chance.
    DropSome(u32),
    /// Those above so many bytes a second are dropped.
    DropAbove(u64),
}

impl Ruleset {
    /// The rules for these faults of this group, each of which was checked.
    pub fn derive<'a>(plan: &Plan, faults: impl IntoIterator<Item = &'a Fault>) -> Self {
        Self { rules: faults.into_iter().flat_map(|fault| of_fault(plan, fault)).collect() }
    }
}

fn of_fault(plan: &Plan, fault: &Fault) -> Vec<Rule> {
    let verdict = match fault.effect {
        Effect::Cut => Verdict::Drop,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a checked share is above 0 and at most 100"
        )]
        Effect::Loss { percent } => match (percent * f64::from(CHANCES / 100)).round() as u32 {
            CHANCES.. => Verdict::Drop,
            chances => Verdict::DropSome(chances.max(1)),
        },
        Effect::Rate { bits_per_second } => Verdict::DropAbove(bits_per_second / 8),
    };
    let (vms, peers) = (ports(plan, &fault.vms), ports(plan, &fault.peers));
    let sent = || of_direction(&vms, &peers, verdict);
    let received = || of_direction(&peers, &vms, verdict);
    match fault.direction {
        Direction::Sent => sent(),
        Direction::Received => received(),
        Direction::Both => [sent(), received()].concat(),
    }
}

/// What is sent from the ones to the others; where there are none, it is anybody, the host too.
fn of_direction(from: &BTreeSet<IfName>, to: &BTreeSet<IfName>, verdict: Verdict) -> Vec<Rule> {
    let rule = |hook| Rule { hook, filter: Filter { from: from.clone(), to: to.clone() }, verdict };
    let mut rules = vec![rule(Hook::Forward)];
    if to.is_empty() {
        rules.push(rule(Hook::Input));
    }
    if from.is_empty() {
        rules.push(rule(Hook::Output));
    }
    rules
}

fn ports(plan: &Plan, vms: &[String]) -> BTreeSet<IfName> {
    let plans = vms.iter().filter_map(|name| plan.vm(name));
    plans.flat_map(|vm| vm.taps().map(|(_, name)| name.clone()).collect::<Vec<_>>()).collect()
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

/// Much as nft(8) would write it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hook.as_str())?;
        for (what, ports) in [("iifname", &self.filter.from), ("oifname", &self.filter.to)] {
            if !ports.is_empty() {
                let ports: Vec<&str> = ports.iter().map(IfName::as_str).collect();
                write!(f, " {what} {{ {} }}", ports.join(", "))?;
            }
        }
        match self.verdict {
            Verdict::Drop => f.write_str(" drop"),
            Verdict::DropSome(chances) => write!(f, " numgen random mod {CHANCES} < {chances} drop"),
            Verdict::DropAbove(rate) => {
                write!(f, " limit rate over {rate} bytes/second burst {BURST} bytes drop")
            }
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
