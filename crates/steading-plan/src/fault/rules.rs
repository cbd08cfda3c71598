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
}

impl Ruleset {
    /// The rules for these faults of this group, each of which was checked. `ports` says which ports of
    /// the bridge a TAP stands for: itself, or the end of its relay, or both while that changes.
    pub fn derive<'a>(
        plan: &Plan,
        ports: impl Fn(&IfName) -> Vec<IfName>,
        faults: impl IntoIterator<Item = &'a Fault>,
    ) -> Self {
        Self { rules: faults.into_iter().flat_map(|fault| of_fault(plan, &ports, fault)).collect() }
    }
}

fn of_fault(plan: &Plan, ports: &impl Fn(&IfName) -> Vec<IfName>, fault: &Fault) -> Vec<Rule> {
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
        // Relays do those.
        Effect::Rate { .. } | Effect::Delay { .. } | Effect::Duplicate { .. } | Effect::Reorder { .. } => {
            return Vec::new();
        }
    };
    let (vms, peers) = (ports_of(plan, ports, &fault.vms), ports_of(plan, ports, &fault.peers));
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

fn ports_of(plan: &Plan, ports: &impl Fn(&IfName) -> Vec<IfName>, vms: &[String]) -> BTreeSet<IfName> {
    let plans = vms.iter().filter_map(|name| plan.vm(name));
    plans.flat_map(|vm| vm.taps().flat_map(|(_, tap)| ports(tap)).collect::<Vec<_>>()).collect()
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
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
