//! The faults of the group's network that are active: kept in one place, and put into the kernel as
//! one whole each time that one begins or ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use steading_api::{ActiveFault, Failure, FailureKind, FaultRequest, chain};
use steading_logs::FaultEvent;
use steading_net::Network;
use steading_plan::fault::wiring::{self, Wire};
use steading_plan::{Fault, IfName, Plan, Ruleset};
use steading_sys::namespace;
use tokio::sync::Mutex;

use crate::GroupError;
use crate::log::Log;
use crate::relay::Relays;

/// Every fault of a group.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    plan: Arc<Plan>,
    log: Log,
    numbers: Numbers,
    table: Arc<Mutex<Table>>,
}

/// Gives each fault, of the network or of a server, a number of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(Arc<AtomicU32>);

impl Numbers {
    /// One that was never given.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// This one and those before it are taken.
    pub(crate) fn are_taken_to(&self, number: u32) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Table {
    network: Arc<Network>,
    relays: Relays,
    active: BTreeMap<u32, ActiveFault>,
}

/// Why a fault ended, as the log has it.
#[derive(Clone, Copy, Debug)]
enum End {
    Asked,
    /// The program that had asked for it ended before it had it undone.
    WithProgram,
}

/// Whether groups here can have faults, tried in namespaces that end at once. None where there are no
/// namespaces. To be called with one thread.
pub fn probe_faults() -> Option<bool> {
    namespace::probe_with(|| steading_net::probe_rules().is_ok()).ok()
}

impl Faults {
    /// Those that were active when the group was frozen are so again, with their numbers. Anyone who had
    /// asked for them is not here.
    pub(crate) async fn new(
        plan: &Plan,
        network: Arc<Network>,
        log: Log,
        numbers: Numbers,
        kept: Vec<ActiveFault>,
    ) -> Result<Self, GroupError> {
        let table = Table { network, relays: Relays::default(), active: BTreeMap::new() };
        let faults = Self { plan: Arc::new(plan.clone()), log, numbers, table: Arc::new(Mutex::new(table)) };
        if kept.is_empty() {
            return Ok(faults);
        }
        let active: BTreeMap<_, _> =
            kept.into_iter().map(|fault| (fault.id, ActiveFault { pid: None, ..fault })).collect();
        for fault in active.values() {
            // It may be from a file.
            fault.fault.check(plan)?;
        }
        let mut table = faults.table.lock().await;
        faults.put_into_place(&mut table, &active).await?;
        for fault in active.values() {
            faults.numbers.are_taken_to(fault.id);
            faults.tell_beginning(fault).await;
        }
        table.active = active;
        drop(table);
        Ok(faults)
    }

    /// Makes a fault. One that a program of the group asked for ends with it; `name_of` says what
    /// program that is, if it runs.
    pub(crate) async fn begin(
        &self,
        request: FaultRequest,
        name_of: impl Fn(i32) -> Option<String>,
    ) -> Result<ActiveFault, Failure> {
        let FaultRequest { fault, pid } = request;
        fault.check(&self.plan).map_err(|error| Failure::bad_request(chain(&error)))?;
        let mut table = self.table.lock().await;
        table.network.check_own().map_err(|error| failed(&error.into()))?;
        // Looked at with the table in hand: a program's end takes it after the program is forgotten.
        let function = pid.and_then(name_of);
        let pid = pid.filter(|_| function.is_some());
        let id = self.numbers.next();
        let begun = ActiveFault { id, fault, function, pid };
        let mut active = table.active.clone();
        active.insert(id, begun.clone());
        self.put_into_place(&mut table, &active).await.map_err(|error| failed(&error))?;
        table.active = active;
        self.tell_beginning(&begun).await;
        Ok(begun)
    }

    /// Those that are active, by number.
    pub(crate) async fn active(&self) -> Vec<ActiveFault> {
        self.table.lock().await.active.values().cloned().collect()
    }

    /// Undoes one.
    pub(crate) async fn undo(&self, id: u32) -> Result<(), Failure> {
        let mut table = self.table.lock().await;
        if !table.active.contains_key(&id) {
            return Err(unknown(id, &table));
        }
        self.end(&mut table, |fault| fault.id == id, End::Asked)
            .await
            .map(|_| ())
            .map_err(|error| failed(&error))
    }

    /// Undoes all, and says which.
    pub(crate) async fn undo_all(&self) -> Result<Vec<ActiveFault>, Failure> {
        let mut table = self.table.lock().await;
        self.end(&mut table, |_| true, End::Asked).await.map_err(|error| failed(&error))
    }

    /// Undoes those that this program asked for; it has ended.
    pub(crate) async fn undo_of(&self, pid: i32) {
        let mut table = self.table.lock().await;
        let ended = self.end(&mut table, |fault| fault.pid == Some(pid), End::WithProgram).await;
        if let Err(error) = ended {
            let message = format!("faults of a program that has ended stay: {}", chain(&error));
            self.log.warn(None, &message).await;
        }
    }

    /// Has one stay when the program that asked for it has ended.
    pub(crate) async fn keep(&self, id: u32) -> Result<(), Failure> {
        let mut table = self.table.lock().await;
        match table.active.get_mut(&id) {
            Some(fault) => {
                fault.pid = None;
                Ok(())
            }
            None => Err(unknown(id, &table)),
        }
    }

    async fn end(
        &self,
        table: &mut Table,
        is_meant: impl Fn(&ActiveFault) -> bool,
        why: End,
    ) -> Result<Vec<ActiveFault>, GroupError> {
        let (ended, active): (BTreeMap<_, _>, BTreeMap<_, _>) =
            table.active.clone().into_iter().partition(|(_, fault)| is_meant(fault));
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        self.put_into_place(table, &active).await?;
        table.active = active;
        for fault in ended.values() {
            let message = match (why, &fault.function) {
                (End::WithProgram, Some(name)) => {
                    format!("fault {} is undone, with the end of {name}: {}", fault.id, fault.fault)
                }
                _ => format!("fault {} is undone: {}", fault.id, fault.fault),
            };
            self.log.fault(FaultEvent::Ended { id: fault.id }, message).await;
        }
        Ok(ended.into_values().collect())
    }

    /// Has the kernel, and the relays, do what these say. Between the old and the new, the bridge drops
    /// what either has dropped: a frame that is to be lost finds no gap while a relay is put in.
    async fn put_into_place(
        &self,
        table: &mut Table,
        active: &BTreeMap<u32, ActiveFault>,
    ) -> Result<(), GroupError> {
        let new: Vec<&Fault> = active.values().map(|active| &active.fault).collect();
        let old: Vec<&Fault> = table.active.values().map(|active| &active.fault).collect();
        let wiring = wiring::derive(&self.plan, new.iter().copied());
        let changes = {
            let (before, after): (Vec<&IfName>, Vec<&IfName>) =
                (table.relays.taps().map(|(tap, _)| tap).collect(), wiring.keys().collect());
            before != after
        };
        if changes {
            let outer: BTreeMap<IfName, IfName> = (table.relays.taps().chain(&wiring))
                .map(|(tap, wire)| (tap.clone(), wire.outer.clone()))
                .collect();
            let both = |tap: &IfName| [Some(tap), outer.get(tap)].into_iter().flatten().cloned().collect();
            steading_net::replace_rules(&Ruleset::derive(&self.plan, both, old))?;
        }
        if let Err(error) = table.relays.ensure(&wiring, &table.network).await {
            let present: BTreeMap<&IfName, &Wire> = table.relays.taps().collect();
            let port = |tap: &IfName| vec![present.get(tap).map_or(tap, |wire| &wire.outer).clone()];
            let old = table.active.values().map(|active| &active.fault);
            steading_net::replace_rules(&Ruleset::derive(&self.plan, port, old))?;
            return Err(error);
        }
        table.relays.retain(&wiring, &table.network).await?;
        let port =
            |tap: &IfName| vec![wiring.get(tap).map_or_else(|| tap.clone(), |wire| wire.outer.clone())];
        Ok(steading_net::replace_rules(&Ruleset::derive(&self.plan, port, new))?)
    }

    async fn tell_beginning(&self, begun: &ActiveFault) {
        let what = begun.fault.to_string();
        let message = format!("fault {}: {what}", begun.id);
        self.log.fault(FaultEvent::Began { id: begun.id, what }, message).await;
    }
}

fn unknown(id: u32, table: &Table) -> Failure {
    let known: Vec<String> = table.active.keys().map(u32::to_string).collect();
    let hint = if known.is_empty() {
        "none is active".to_owned()
    } else {
        format!("active are: {}", known.join(", "))
    };
    Failure::bad_request(format!("no fault with the number {id} is active\nhint: {hint}"))
}

fn failed(error: &GroupError) -> Failure {
    Failure::new(FailureKind::Failed, chain(error))
}
