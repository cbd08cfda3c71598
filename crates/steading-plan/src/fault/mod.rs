//! Faults of a group's network, as they are asked for.
//!
//! A fault is about what some VMs send and receive, and is made on the host's side of their cards, so
//! it works with any guest. [`Ruleset::derive`] says what the kernel is to do for all that are active.

mod rules;
pub mod wiring;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Plan;

pub use rules::{CHANCES, Filter, Hook, Rule, Ruleset, Verdict};

/// The lowest rate that can be asked for, in bits a second: less than a frame a second is a cut.
pub const RATE_MIN: u64 = 8_000;

/// The longest delay that can be asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

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
    /// What happens to those.
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

/// What happens to frames.
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
    /// They wait until there is room, and above what may wait they do not arrive.
    Rate {
        /// Bits a second.
        bits_per_second: u64,
    },
    /// They arrive later.
    Delay {
        /// By so many microseconds.
        microseconds: u64,
        /// Give or take up to so many, by chance, frame by frame.
        #[serde(default)]
        jitter: u64,
    },
    /// Some arrive twice, by chance.
    Duplicate {
        /// How many, in percent.
        percent: f64,
    },
    /// Some arrive later than others that were sent after them, by chance.
    Reorder {
        /// How many, in percent.
        percent: f64,
        /// How much later, in microseconds.
        microseconds: u64,
    },
}

impl Effect {
    /// Whether frames must be held for it, which the bridge cannot.
    pub const fn holds_frames(&self) -> bool {
        !matches!(self, Self::Cut | Self::Loss { .. })
    }

    fn check(&self) -> Result<(), FaultError> {
        match *self {
            Self::Loss { percent } | Self::Duplicate { percent } => check_share(percent),
            Self::Rate { bits_per_second } if bits_per_second < RATE_MIN => {
                Err(FaultError::Rate(bits_per_second))
            }
            Self::Cut | Self::Rate { .. } => Ok(()),
            Self::Delay { microseconds: delay, jitter } if jitter > delay => {
                Err(FaultError::Jitter { delay, jitter })
            }
            Self::Delay { microseconds, .. } => check_delay(microseconds),
            Self::Reorder { percent, microseconds } => {
                check_share(percent).and_then(|()| check_delay(microseconds))
            }
        }
    }
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
    /// It has a VM whose card is another's to make.
    #[error(
        "VM {name} runs inside {host}, and the group has no end of its card\nhint: a fault of {host} is one of those inside it, too"
    )]
    Inside {
        /// The VM.
        name: String,
        /// Its host.
        host: String,
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
    /// A delay of nothing, or of a time that nobody waits.
    #[error("{0} µs is no delay\nhint: more than 0, and up to {seconds} s", seconds = DELAY_MAX.as_secs())]
    Delay(u64),
    /// Some frames would arrive before they are sent.
    #[error("a jitter of {jitter} µs is more than the delay, {delay} µs\nhint: frames cannot come early")]
    Jitter {
        /// The delay.
        delay: u64,
        /// The jitter.
        jitter: u64,
    },
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

    /// What the VM sends and receives arrives so much later: there and back takes twice that. See
    /// [`Self::one_way`].
    pub fn delay(vm: impl Into<String>, delay: Duration) -> Self {
        Self::new(vec![vm.into()], Effect::Delay { microseconds: micros(delay), jitter: 0 })
    }

    /// The delay of each frame is longer or shorter by up to this, by chance. Then frames overtake each
    /// other.
    #[must_use]
    pub fn jitter(mut self, most: Duration) -> Self {
        if let Effect::Delay { jitter, .. } = &mut self.effect {
            *jitter = micros(most);
        }
        self
    }

    /// This share of what the VM sends and receives arrives twice, by chance.
    pub fn duplicate(vm: impl Into<String>, percent: f64) -> Self {
        Self::new(vec![vm.into()], Effect::Duplicate { percent })
    }

    /// This share of what the VM sends and receives is held back for so long, by chance, and what was
    /// sent after it arrives before it.
    pub fn reorder(vm: impl Into<String>, percent: f64, by: Duration) -> Self {
        Self::new(vec![vm.into()], Effect::Reorder { percent, microseconds: micros(by) })
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
            if let Some(host) = plan.vm(name).and_then(|vm| vm.spec.inside.as_deref()) {
                return Err(FaultError::Inside { name: name.to_owned(), host: host.to_owned() });
            }
            if plan.vm(name).is_none() {
                let known: Vec<&str> = plan.vms.iter().map(|vm| vm.name.as_str()).collect();
                return Err(FaultError::UnknownVm { name: name.to_owned(), known: known.join(", ") });
            }
        }
        if let Some(name) = self.vms.iter().find(|name| self.peers.contains(name)) {
            return Err(FaultError::BothSides(name.clone()));
        }
        self.effect.check()
    }

    /// The VMs that it names.
    pub fn affected(&self) -> impl Iterator<Item = &str> {
        self.vms.iter().chain(&self.peers).map(String::as_str)
    }
}

fn check_share(percent: f64) -> Result<(), FaultError> {
    if percent > 0.0 && percent <= 100.0 { Ok(()) } else { Err(FaultError::Percent(percent)) }
}

fn check_delay(microseconds: u64) -> Result<(), FaultError> {
    let is_one = (1..=micros(DELAY_MAX)).contains(&microseconds);
    if is_one { Ok(()) } else { Err(FaultError::Delay(microseconds)) }
}

/// A time in microseconds, as effects have it.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
            Effect::Delay { microseconds, jitter: 0 } => {
                write!(f, "delay by {} what {vms} ", Micros(microseconds))?;
            }
            Effect::Delay { microseconds, jitter } => {
                let (delay, jitter) = (Micros(microseconds), Micros(jitter));
                write!(f, "delay by {delay} ± {jitter} what {vms} ")?;
            }
            Effect::Duplicate { percent } => write!(f, "double {percent} % of what {vms} ")?,
            Effect::Reorder { percent, microseconds } => {
                write!(f, "hold back by {} {percent} % of what {vms} ", Micros(microseconds))?;
            }
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

/// A time, as people write it.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros.is_multiple_of(1_000_000) => write!(f, "{} s", micros / 1_000_000),
            micros if micros.is_multiple_of(1_000) => write!(f, "{} ms", micros / 1_000),
            micros => write!(f, "{micros} µs"),
        }
    }
}

/// Reads a delay: a number with `us`, `ms` or `s`.
///
/// # Errors
///
/// When it is none.
pub fn parse_delay(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no delay\nhint: a number and us, ms or s: 500us, 20ms");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(wrong()),
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
