//! Faults of a group's network, from outside.

use std::convert::Infallible;
use std::io::Write as _;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use steading_api::FaultRequest;
use steading_plan::fault::{micros, parse_delay, parse_rate};
use steading_plan::{Direction, Effect, Fault};
use steading_report::output::{Stderr, Stdout};

use crate::exit_code;
use crate::groups::LiveGroup;

/// What is to be done about faults.
#[derive(Subcommand, Clone, Debug)]
pub enum FaultCommand {
    /// Let nothing pass between VMs and everybody else, the driver included.
    Cut {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Let nothing pass between VMs of one set and those of another.
    Partition {
        /// The one set, with commas between its VMs.
        vms: VmNames,
        /// The other.
        others: VmNames,
        /// Only what the first set sends to the second is lost.
        #[arg(long)]
        one_way: bool,
    },
    /// Lose frames by chance.
    Loss {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// How many frames, in percent.
        percent: f64,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Let frames arrive later.
    Delay {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// How much later: a number and us, ms or s. There and back takes twice that.
        #[arg(value_parser = parse_delay)]
        delay: Duration,
        /// Give or take up to so much, by chance, frame by frame.
        #[arg(long, value_parser = parse_delay, default_value = "0us")]
        jitter: Duration,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Let frames arrive twice, by chance.
    Duplicate {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// How many frames, in percent.
        percent: f64,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Hold frames back, by chance, while others overtake them.
    Reorder {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// How many frames, in percent.
        percent: f64,
        /// For how long: a number and us, ms or s.
        #[arg(value_parser = parse_delay)]
        by: Duration,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Let no more through than a rate. What waits too long for that is lost.
    Rate {
        /// The VMs, with commas between them.
        vms: VmNames,
        /// The rate: a number and bit, kbit, mbit or gbit (a second).
        #[arg(value_parser = parse_rate)]
        rate: u64,
        /// Between whom.
        #[command(flatten)]
        scope: Scope,
    },
    /// Print the faults that are active.
    Ls,
    /// Undo a fault.
    Undo {
        /// Its number.
        #[arg(required_unless_present = "all")]
        id: Option<u32>,
        /// All of them.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

/// Names of VMs, separated by commas.
#[derive(Clone, Debug)]
pub struct VmNames(Vec<String>);

impl FromStr for VmNames {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split(',').map(str::to_owned).collect()))
    }
}

/// Between whom a fault is.
#[derive(Args, Clone, Debug, Default)]
pub struct Scope {
    /// Only what they send to these VMs.
    #[arg(long, value_name = "VMS")]
    to: Option<VmNames>,
    /// Only what they and these VMs send each other.
    #[arg(long, value_name = "VMS", conflicts_with = "to")]
    with: Option<VmNames>,
    /// Only what they send.
    #[arg(long, conflicts_with_all = ["to", "incoming"])]
    one_way: bool,
    /// Only what they receive.
    #[arg(long, conflicts_with = "to")]
    incoming: bool,
}

impl Scope {
    fn fault(&self, vms: &VmNames, effect: Effect) -> Fault {
        let direction = match (self.to.is_none() && !self.one_way, self.incoming) {
            (false, _) => Direction::Sent,
            (true, true) => Direction::Received,
            (true, false) => Direction::Both,
        };
        let peers = self.to.as_ref().or(self.with.as_ref()).map_or_else(Vec::new, |names| names.0.clone());
        Fault { peers, direction, ..Fault::new(vms.0.clone(), effect) }
    }
}

pub(crate) async fn run(group: &LiveGroup, command: &FaultCommand) -> anyhow::Result<u8> {
    let mut out = Stdout;
    let fault = match command {
        FaultCommand::Cut { vms, scope } => scope.fault(vms, Effect::Cut),
        FaultCommand::Partition { vms, others, one_way } => {
            let direction = if *one_way { Direction::Sent } else { Direction::Both };
            Fault { peers: others.0.clone(), direction, ..Fault::new(vms.0.clone(), Effect::Cut) }
        }
        FaultCommand::Loss { vms, percent, scope } => scope.fault(vms, Effect::Loss { percent: *percent }),
        FaultCommand::Rate { vms, rate, scope } => scope.fault(vms, Effect::Rate { bits_per_second: *rate }),
        FaultCommand::Delay { vms, delay, jitter, scope } => {
            scope.fault(vms, Effect::Delay { microseconds: micros(*delay), jitter: micros(*jitter) })
        }
        FaultCommand::Duplicate { vms, percent, scope } => {
            scope.fault(vms, Effect::Duplicate { percent: *percent })
        }
        FaultCommand::Reorder { vms, percent, by, scope } => {
            scope.fault(vms, Effect::Reorder { percent: *percent, microseconds: micros(*by) })
        }
        FaultCommand::Ls => {
            for active in group.client.faults().await? {
                let by = active.function.map(|name| format!(" (by {name})")).unwrap_or_default();
                writeln!(out, "{:<4} {}{by}", active.id, active.fault)?;
            }
            return Ok(exit_code::PASSED);
        }
        FaultCommand::Undo { id: Some(id), .. } => {
            group.client.undo_fault(*id).await?;
            return Ok(exit_code::PASSED);
        }
        FaultCommand::Undo { id: None, .. } => {
            group.client.undo_faults().await?;
            return Ok(exit_code::PASSED);
        }
    };
    for vm in fault.affected() {
        group.vm(vm)?;
    }
    // Here too: JSON has no words for some of what is no number.
    fault.check(&group.status.plan)?;
    let begun = group.client.begin_fault(&FaultRequest { fault, pid: None }).await?;
    writeln!(out, "{}", begun.id)?;
    writeln!(Stderr, "fault {}: {}", begun.id, begun.fault)?;
    Ok(exit_code::PASSED)
}
