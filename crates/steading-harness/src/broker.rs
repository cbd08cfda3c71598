//! Waits until this machine has room for a group, next to the groups of others.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::FalseyValueParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use steading_broker::{BrokerError, Directory, Lease, Limits, Needs, Queue, Request, Ticket, View, peak_of};
use steading_plan::{OVERSUBSCRIPTION, Plan, env_vars, text};
use steading_report::{Event, Report, Reserved};
use steading_sys::signal::{Caught, ENDING, not_ignored};
use steading_vm::image::ImageCache;
use thiserror::Error;

use crate::exit_code;
use crate::host::host_resources;

/// The time between two messages to those who wait, where nothing moves on the screen.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How many holders are named in one line.
const NAMED: usize = 4;

/// Options for groups that share this machine.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sharing the machine")]
pub struct BrokerOptions {
    /// Start at once, whatever other groups have reserved, and reserve nothing.
    #[arg(long, env = env_vars::STEADING_NO_BROKER, hide_env_values = true, value_parser = FalseyValueParser::new())]
    no_broker: bool,
    /// Directory of the queue [default: one directory for all users of this machine].
    #[arg(long, value_name = "DIR", env = env_vars::STEADING_BROKER_DIR, hide_env_values = true)]
    broker_dir: Option<Utf8PathBuf>,
    /// Number of CPUs that all groups together can reserve [default: the CPUs that this process can use].
    #[arg(long, value_name = "N", env = env_vars::STEADING_BROKER_CPUS, hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..))]
    broker_cpus: Option<u64>,
    /// Memory that all groups together can reserve, in MiB [default: all memory].
    #[arg(long, value_name = "MIB", env = env_vars::STEADING_BROKER_MEMORY_MIB, hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..))]
    broker_memory_mib: Option<u64>,
    /// Number of virtual CPUs per reserved CPU [default: 4].
    #[arg(long, value_name = "N", env = env_vars::STEADING_OVERSUBSCRIPTION, hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..))]
    oversubscription: Option<u64>,
}

/// A testnet that can never be admitted.
#[derive(Debug, Error)]
#[error(
    "the testnet needs {needed} MiB of memory, but groups can reserve only {limit} MiB: {sum}\nhint: declare less memory_mib or fewer VMs, or raise --broker-memory-mib"
)]
pub(crate) struct Refused {
    needed: u64,
    limit: u64,
    sum: String,
}

/// The result of waiting.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// There is room, and it is reserved unless the broker is off.
    Yes(Box<Room>),
    /// A signal came first.
    Interrupted,
}

/// The reservation of a group, and the way to more.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) lease: Option<Lease>,
    pub(crate) more: Option<More>,
}

/// Reserves the same again, for forks.
#[derive(Debug)]
pub(crate) struct More {
    queue: Queue,
    group: String,
    needs: Needs,
}

impl More {
    /// Reserves it if nobody has to wait for that. A group that already holds a reservation must not queue, since two
    /// such groups would wait for each other.
    pub(crate) fn try_take(&self) -> Result<Option<Lease>, BrokerError> {
        self.queue.try_take(&Request::new(&self.group, self.needs, None))
    }
}

/// How many testnets a run has at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The group.
    One,
    /// The group, which stands frozen, and a fork of it.
    WithFork,
}

impl BrokerOptions {
    /// Returns options that turn the broker off.
    pub fn off() -> Self {
        Self { no_broker: true, ..Self::default() }
    }

    /// Returns how much all groups together can reserve.
    pub fn limits(&self) -> Limits {
        let host = host_resources();
        Limits {
            cpus: self.broker_cpus.unwrap_or(host.cpus),
            memory_mib: self.broker_memory_mib.unwrap_or(host.memory_mib),
            oversubscription: self.oversubscription.unwrap_or(OVERSUBSCRIPTION),
        }
    }

    /// Returns the queue, unless the broker is off.
    ///
    /// # Errors
    ///
    /// When its directory cannot be used.
    pub fn queue(&self) -> Result<Option<Queue>, BrokerError> {
        if self.no_broker {
            return Ok(None);
        }
        let named = self.broker_dir.as_deref().filter(|dir| !dir.as_str().is_empty());
        let directory = named.map_or_else(Directory::shared, Directory::named)?;
        Ok(Some(Queue::new(directory, self.limits())))
    }

    fn is_named(&self) -> bool {
        self.broker_dir.as_ref().is_some_and(|dir| !dir.as_str().is_empty())
    }

    /// Refuses a testnet that can never fit.
    pub(crate) fn check(&self, plan: &Plan) -> Result<(), Refused> {
        let (needed, limit) = (plan.resources.total_mib(), self.limits().memory_mib);
        if self.no_broker || needed <= limit {
            return Ok(());
        }
        Err(Refused { needed, limit, sum: plan.memory_sum() })
    }

    /// Waits until there is room for a group. A testnet without VMs needs none.
    pub(crate) fn admit(&self, plan: &Plan, copies: Copies, report: &Report) -> anyhow::Result<Admitted> {
        self.check(plan)?;
        let nothing = || Ok(Admitted::Yes(Box::default()));
        if plan.vms.is_empty() {
            return nothing();
        }
        let queue = match self.queue() {
            Ok(Some(queue)) => queue,
            Ok(None) => return nothing(),
            Err(error) if self.is_named() => return Err(error.into()),
            Err(error) => {
                let why = steading_api::chain(&error);
                let message =
                    format!("the queue of this machine does not work, and this group does not wait: {why}");
                report.tell(&Event::Warning { message });
                return nothing();
            }
        };
        let limits = queue.limits();
        let needs = limits.needs(plan.resources);
        let doubled = needs.memory_mib.saturating_mul(2).min(limits.memory_mib);
        let memory_mib = if copies == Copies::WithFork { doubled } else { needs.memory_mib };
        let measured = peak_of(&ImageCache::default_dir(), plan).map(|peak| peak.memory_mib);
        let request = Request::new(plan.group.as_str(), Needs { memory_mib, ..needs }, measured);
        let Some(lease) =
            wait(&queue, request, report).context("cannot queue for CPUs and memory of this machine")?
        else {
            return Ok(Admitted::Interrupted);
        };
        let more = More { queue, group: plan.group.to_string(), needs };
        Ok(Admitted::Yes(Box::new(Room { lease: Some(lease), more: Some(more) })))
    }
}

impl Room {
    /// The reservation for the results.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        self.lease.as_ref().map(|lease| Reserved {
            ticket: lease.number,
            cpus: lease.needs.cpus,
            memory_mib: lease.needs.memory_mib,
            since: lease.held_since,
            waited_seconds: lease.waited.as_secs_f64(),
        })
    }
}

/// Who reserves room for a group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reservation<'a> {
    /// The broker, in the order of the queue.
    Broker(&'a BrokerOptions, Copies),
    /// The process that started this one has reserved it.
    Inherited,
}

impl Reservation<'_> {
    /// Waits until there is room. An error comes with its exit status.
    pub(crate) fn admit(self, plan: &Plan, report: &Report) -> Result<Room, (u8, anyhow::Error)> {
        let Self::Broker(options, copies) = self else { return Ok(Room::default()) };
        match options.admit(plan, copies, report).map_err(|error| (exit_code::HOST, error))? {
            Admitted::Yes(room) => Ok(*room),
            Admitted::Interrupted => {
                Err((exit_code::INTERRUPTED, anyhow::anyhow!("interrupted in the queue for CPUs and memory")))
            }
        }
    }

    /// Refuses a testnet that can never fit.
    pub(crate) fn check(self, plan: &Plan) -> Result<(), Refused> {
        match self {
            Self::Broker(options, _) => options.check(plan),
            Self::Inherited => Ok(()),
        }
    }
}

/// The lease, or none when a signal came before.
fn wait(queue: &Queue, request: Request, report: &Report) -> anyhow::Result<Option<Lease>> {
    let needs = request.needs;
    let mut waiting = queue.wait(request);
    if let Some(lease) = waiting.advance()? {
        return Ok(Some(lease));
    }
    let signals = Caught::open(&not_ignored(&ENDING))?;
    let mut told: Option<(Queued, Instant)> = None;
    loop {
        if let Some(lease) = waiting.advance()? {
            report.tell(&Event::Admitted { needs: needs.to_string(), seconds: lease.waited.as_secs_f64() });
            return Ok(Some(lease));
        }
        let queued = Queued::of(&queue.view()?, waiting.number());
        let is_news = told.as_ref().is_none_or(|(before, at)| {
            (report.is_live() && before.held != queued.held)
                || before.place != queued.place
                || at.elapsed() >= TOLD_EVERY
        });
        if is_news {
            let Queued { place, held } = queued.clone();
            report.tell(&Event::Queued { needs: needs.to_string(), place, held });
            told = Some((queued, Instant::now()));
        }
        let redraw = report.redraw_at().map(|at| at.saturating_duration_since(Instant::now()));
        let is_interrupted = waiting.rest(&signals, redraw.unwrap_or(TOLD_EVERY))?;
        if is_interrupted && signals.take().is_some() {
            return Ok(None);
        }
        report.redraw();
    }
}

/// Where one that waits stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queued {
    place: Option<(usize, usize)>,
    held: String,
}

impl Queued {
    fn of(view: &View, own: Option<u64>) -> Self {
        let numbers: Vec<u64> = view.waiting().map(|ticket| ticket.number).collect();
        let place = numbers.iter().position(|number| Some(*number) == own);
        Self { place: place.map(|place| (place + 1, numbers.len())), held: held(view) }
    }
}

/// Who holds what, in one line.
fn held(view: &View) -> String {
    let holders: Vec<&Ticket> = view.holders().collect();
    let mut named: Vec<String> = holders.iter().take(NAMED).map(|ticket| holder(ticket)).collect();
    if holders.len() > NAMED {
        named.push(format!("and {} more", holders.len() - NAMED));
    }
    if named.is_empty() {
        named.push("nobody".to_owned());
    }
    format!("{} of {} are reserved: {}", view.held(), view.limits, named.join(", "))
}

fn holder(ticket: &Ticket) -> String {
    let since = ticket.held_since.map(clock).unwrap_or_default();
    match &ticket.request {
        Some(request) => {
            // Anybody can write a ticket.
            format!("{} ({}, since {since})", text::one_line(&request.group), request.needs)
        }
        None => format!("an unreadable ticket of user {} (another version of Steading)", ticket.uid),
    }
}

/// Returns the time of day as text.
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u64, group: &str, held: bool) -> Ticket {
        let request = Request::new(group, Needs { cpus: 1, memory_mib: 600 }, None);
        Ticket {
            number,
            uid: 1000,
            request: Some(request),
            held_since: held.then_some(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn who_waits_is_told_their_place_and_who_holds_what() {
        let limits = Limits { cpus: 2, memory_mib: 2000, oversubscription: 4 };
        let mut tickets = vec![ticket(1, "east", true), ticket(2, "west", true)];
        tickets.extend([ticket(3, "north", false), ticket(5, "ours", false), ticket(6, "south", false)]);
        let queued = Queued::of(&View { limits, tickets }, Some(5));
        assert_eq!(queued.place, Some((2, 3)));
        assert!(
            queued.held.starts_with(
                "2 CPUs and 1200 MiB of 2 CPUs and 2000 MiB are reserved: east (1 CPU and 600 MiB, since "
            ),
            "{}",
            queued.held
        );
        assert!(queued.held.contains("), west ("), "{}", queued.held);
    }

    #[test]
    fn of_many_holders_a_few_are_named() {
        let limits = Limits { cpus: 99, memory_mib: 99_999, oversubscription: 1 };
        let tickets = (1..=9).map(|number| ticket(number, "g", true)).collect();
        let queued = Queued::of(&View { limits, tickets }, None);
        assert_eq!(queued.place, None);
        assert!(queued.held.ends_with("), and 5 more"), "{}", queued.held);
    }
}
