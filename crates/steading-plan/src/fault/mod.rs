//! Faults of a group's network, as they are asked for.
//!
//! A fault is about what some VMs send and receive, and is made on the host's side of their cards, so
//! it works with any guest. [`Ruleset::derive`] says what the kernel is to do for all that are active.

mod rules;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Plan;

pub use rules::{BURST, CHANCES, Filter, Hook, Rule, Ruleset, Verdict};

/// The lowest rate that can be asked for, in bits a second: less than a frame a second is a cut.
pub const RATE_MIN: u64 = 8_000;

/// A fault of the network between VMs, or between VMs and everybody else.
///
/// ```
/// use steading_plan::Fault;
///
/// let fault = Fault::partition(&["a", "b"], &["c"]).one_way();
/// assert_eq!(fault.to_string(), "cut a,b from c, one way");
/// assert_eq!(Fault::loss("n1", 30.0).to("n2").to_string(), "lose 30 % of what n1 sends to n2");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The VMs that it is about.
    pub vms: Vec<String>,
    /// At the other end: these VMs; if there are none, everybody, the driver included.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Which frames between them.
    #[serde(default)]
    pub direction: Direction,
    /// What becomes of those.
    pub effect: Effect,
}

/// Which frames a fault is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What its VMs send, and what they receive.
    #[default]
    Both,
    /// What its VMs send.
    Sent,
    /// What its VMs receive.
    Received,
}

/// What becomes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// None arrives.
    Cut,
    /// Some do not arrive, by chance.
    Loss {
        /// How many, in percent.
        percent: f64,
    },
    /// Those above a rate do not arrive.
    Rate {
        /// Bits a second.
        bits_per_second: u64,
    },
}

/// A fault that cannot be made of a group.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FaultError {
    /// There are no VMs that it could be about.
    #[error("a fault must be about at least one VM")]
    Nobody,
    /// It has VMs that are not there.
    #[error("there is no VM named {name:?}\nhint: there are: {known}")]
    UnknownVm {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A VM stands on both sides.
    #[error("VM {0} is on both sides of the fault\nhint: nothing in a network is between a VM and itself")]
    BothSides(String),
    /// A share that is none.
    #[error("{0} is no share of frames in percent\nhint: more than 0, and up to 100")]
    Percent(f64),
    /// A rate by which hardly a frame would pass.
    #[error("{0} bits a second are too few\nhint: {RATE_MIN} at least; `cut` lets nothing pass")]
    Rate(u64),
}

impl Fault {
    /// Nothing passes between this VM and anybody else, the driver included.
    pub fn cut(vm: impl Into<String>) -> Self {
        Self::new(vec![vm.into()], Effect::Cut)
    }

    /// Nothing passes between VMs of the one set and those of the other.
    pub fn partition(vms: &[&str], peers: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { peers: owned(peers), ..Self::new(owned(vms), Effect::Cut) }
    }

    /// This share of what the VM sends and receives does not arrive, by chance, frame by frame.
    pub fn loss(vm: impl Into<String>, percent: f64) -> Self {
        Self::new(vec![vm.into()], Effect::Loss { percent })
    }

    /// The VM sends, and receives, no more than so many bits a second.
    pub fn rate(vm: impl Into<String>, bits_per_second: u64) -> Self {
        Self::new(vec![vm.into()], Effect::Rate { bits_per_second })
    }

    /// One of these VMs, both ways, with everybody.
    pub fn new(vms: Vec<String>, effect: Effect) -> Self {
        Self { vms, peers: Vec::new(), direction: Direction::Both, effect }
    }

    /// Only what it sends to that VM. Said of several, to each of them.
    #[must_use]
    pub fn to(mut self, peer: impl Into<String>) -> Self {
        self.peers.push(peer.into());
        self.direction = Direction::Sent;
        self
    }

    /// Only what passes between it and that VM, both ways. Said of several, and each of them.
    #[must_use]
    pub fn with(mut self, peer: impl Into<String>) -> Self {
        self.peers.push(peer.into());
        self
    }

    /// Only what it sends; of a partition, what the first set sends to the second.
    #[must_use]
    pub fn one_way(mut self) -> Self {
        self.direction = Direction::Sent;
        self
    }

    /// Only what it receives; of a partition, what the second set sends to the first.
    #[must_use]
    pub fn incoming(mut self) -> Self {
        self.direction = Direction::Received;
        self
    }

    /// Whether it can be made of this group.
    ///
    /// # Errors
    ///
    /// When a VM is not there or stands on both sides, or a number makes no sense.
    pub fn check(&self, plan: &Plan) -> Result<(), FaultError> {
        if self.vms.is_empty() {
            return Err(FaultError::Nobody);
        }
        for name in self.affected() {
            if plan.vm(name).is_none() {
                let known: Vec<&str> = plan.vms.iter().map(|vm| vm.name.as_str()).collect();
                return Err(FaultError::UnknownVm { name: name.to_owned(), known: known.join(", ") });
            }
        }
        if let Some(name) = self.vms.iter().find(|name| self.peers.contains(name)) {
            return Err(FaultError::BothSides(name.clone()));
        }
        match self.effect {
            Effect::Loss { percent } if !(percent > 0.0 && percent <= 100.0) => {
                Err(FaultError::Percent(percent))
            }
            Effect::Rate { bits_per_second } if bits_per_second < RATE_MIN => {
                Err(FaultError::Rate(bits_per_second))
            }
            Effect::Cut | Effect::Loss { .. } | Effect::Rate { .. } => Ok(()),
        }
    }

    /// The VMs that it names.
    pub fn affected(&self) -> impl Iterator<Item = &str> {
        self.vms.iter().chain(&self.peers).map(String::as_str)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vms, peers) = (self.vms.join(","), self.peers.join(","));
        if self.effect == Effect::Cut {
            let everybody = if peers.is_empty() { "everybody" } else { &peers };
            write!(f, "cut {vms} from {everybody}")?;
            return f.write_str(match self.direction {
                Direction::Both => "",
                Direction::Sent => ", one way",
                Direction::Received => ", the other way only",
            });
        }
        match self.effect {
            Effect::Cut => {}
            Effect::Loss { percent } => write!(f, "lose {percent} % of what {vms} ")?,
            Effect::Rate { bits_per_second } => write!(f, "pass {} of what {vms} ", Rate(bits_per_second))?,
        }
        let verb = match self.direction {
            Direction::Both if peers.is_empty() => "sends and receives",
            Direction::Both => return write!(f, "and {peers} send each other"),
            Direction::Sent => "sends",
            Direction::Received => "receives",
        };
        f.write_str(verb)?;
        match (self.direction, peers.is_empty()) {
            (_, true) => Ok(()),
            (Direction::Received, false) => write!(f, " from {peers}"),
            (_, false) => write!(f, " to {peers}"),
        }
    }
}

/// Bits a second, as people write them.
struct Rate(u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "gbit/s"), (1_000_000, "mbit/s"), (1_000, "kbit/s")] {
            if self.0.is_multiple_of(unit) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} bit/s", self.0)
    }
}

/// Reads a rate: a number with `bit`, `kbit`, `mbit` or `gbit` a second.
///
/// # Errors
///
/// When it is none.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no rate\nhint: a number and bit, kbit, mbit or gbit: 512kbit, 10mbit");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}
