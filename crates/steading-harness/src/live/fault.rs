//! The commands `fault`.

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

/// Commands for faults of the network.
#[derive(Subcommand, Clone, Debug)]
pub enum FaultCommand {
    /// Cut VMs off from everything else, including the driver.
    Cut {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// Cut two sets of VMs off from each other.
    Partition {
        /// First set of VMs, separated by commas.
        vms: VmNames,
        /// Second set of VMs.
        others: VmNames,
        /// Drop only what the first set sends to the second.
        #[arg(long)]
        one_way: bool,
    },
    /// Drop frames at random.
    Loss {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Share of frames, in percent.
        percent: f64,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// Delay frames.
    Delay {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Delay in one direction, with us, ms or s; a round trip takes twice that.
        #[arg(value_parser = parse_delay)]
        delay: Duration,
        /// Random deviation of each frame, at most this much in both directions.
        #[arg(long, value_parser = parse_delay, default_value = "0us")]
        jitter: Duration,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// Duplicate frames at random.
    Duplicate {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Share of frames, in percent.
        percent: f64,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// Reorder frames: hold some back at random, so that others overtake them.
    Reorder {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Share of frames, in percent.
        percent: f64,
        /// How long they are held back, with us, ms or s.
        #[arg(value_parser = parse_delay)]
        by: Duration,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// Limit the rate. Frames that would wait too long are dropped.
    Rate {
        /// VMs, separated by commas.
        vms: VmNames,
        /// Rate per second, with bit, kbit, mbit or gbit.
        #[arg(value_parser = parse_rate)]
        rate: u64,
        /// Scope of the fault.
        #[command(flatten)]
        scope: Scope,
    },
    /// List active faults.
    Ls,
    /// Undo faults.
    Undo {
        /// Number of the fault.
        #[arg(required_unless_present = "all")]
        id: Option<u32>,
        /// Undo all faults.
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

/// The scope of a fault.
#[derive(Args, Clone, Debug, Default)]
pub struct Scope {
    /// Only frames that they send to these VMs.
    #[arg(long, value_name = "VMS")]
    to: Option<VmNames>,
    /// Only frames between them and these VMs.
    #[arg(long, value_name = "VMS", conflicts_with = "to")]
    with: Option<VmNames>,
    /// Only frames that they send.
    #[arg(long, conflicts_with_all = ["to", "incoming"])]
    one_way: bool,
    /// Only frames that they receive.
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
