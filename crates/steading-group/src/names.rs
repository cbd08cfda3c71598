//! The names of the group: the table that its DNS answers from, and where it answers.

use std::net::IpAddr;
use std::sync::Arc;

use steading_api::{Failure, FailureKind, NameStatus, NamesStatus, RecordRemoval, chain};
use steading_names::{DNS_PORT, DnsListener, SharedZone};
use steading_net::Network;
use steading_plan::{Plan, Record, ZoneData, check_resolver};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::GroupError;
use crate::listening::Listening;
use crate::log::Log;

/// The DNS server, for those who ask it to change.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    plan: Arc<Plan>,
    zone: SharedZone,
    network: Arc<Network>,
    listening: Listening,
    log: Log,
    /// The addresses that were claimed. A task that changes anything holds it meanwhile.
    resolvers: Arc<Mutex<Vec<IpAddr>>>,
    listeners: mpsc::UnboundedSender<DnsListener>,
}

/// Answers, at one address after the other that is given to it.
pub(crate) struct Answerer {
    listeners: mpsc::UnboundedReceiver<DnsListener>,
    log: Log,
}

impl Names {
    /// Answers at the gateway's addresses, and at those of resolvers.
    pub(crate) async fn start(
        plan: &Plan,
        network: Arc<Network>,
        listening: Listening,
        log: Log,
        records: &[Record],
        resolvers: Vec<IpAddr>,
    ) -> Result<(Self, Answerer), GroupError> {
        let zone = SharedZone::new(plan.zone(records, resolvers.iter().copied())?);
        let (sender, listeners) = mpsc::unbounded_channel();
        let names = Self {
            plan: Arc::new(plan.clone()),
            zone,
            network,
            listening: listening.clone(),
            log: log.clone(),
            resolvers: Arc::default(),
            listeners: sender,
        };
        for address in listening.gateways() {
            names.answer_at(*address).await?;
        }
        for resolver in resolvers {
            names.claim_address(resolver).await?;
            names.resolvers.lock().await.push(resolver);
        }
        Ok((names, Answerer { listeners, log }))
    }

    /// The table, for who certifies what is in it.
    pub(crate) fn zone(&self) -> SharedZone {
        self.zone.clone()
    }

    async fn answer_at(&self, address: IpAddr) -> Result<(), GroupError> {
        let at = (address, DNS_PORT).into();
        let failed = |source| GroupError::Dns { address, source };
        let datagrams = self.listening.udp(at).await.map_err(failed)?;
        let connections = self.listening.tcp(at).await.map_err(failed)?;
        // Nobody takes it when the group ends.
        let _ = self.listeners.send(DnsListener::at(datagrams, connections, self.zone.clone()));
        Ok(())
    }

    async fn claim_address(&self, resolver: IpAddr) -> Result<(), GroupError> {
        check_resolver(&self.plan.addresses, resolver)?;
        self.network.check_own()?;
        let added = self.network.add_source(resolver).await;
        // The driver may have it already, to speak from.
        match self.answer_at(resolver).await {
            Ok(()) => Ok(()),
            Err(error) => Err(added.map_or_else(GroupError::from, |()| error)),
        }
    }

    /// Has the address of a resolver be the group's. To ask again changes nothing.
    pub(crate) async fn claim(&self, resolver: IpAddr) -> Result<(), Failure> {
        let mut resolvers = self.resolvers.lock().await;
        if resolvers.contains(&resolver) {
            return Ok(());
        }
        let kind = match check_resolver(&self.plan.addresses, resolver) {
            Ok(()) => FailureKind::Failed,
            Err(_) => FailureKind::BadRequest,
        };
        self.claim_address(resolver).await.map_err(|error| failure(kind, chain(&error)))?;
        resolvers.push(resolver);
        let records = self.zone.get().records().to_vec();
        self.put_into_place(&records, &resolvers)?;
        self.log.driver(None, &format!("the group's DNS answers at {resolver}, too")).await;
        Ok(())
    }

    /// Adds a record.
    pub(crate) async fn add(&self, record: Record) -> Result<(), Failure> {
        let resolvers = self.resolvers.lock().await;
        let mut records = self.zone.get().records().to_vec();
        records.push(record.clone());
        self.put_into_place(&records, &resolvers)?;
        self.log.driver(None, &format!("a name was added: {record}")).await;
        Ok(())
    }

    /// Removes records, and says which they were.
    pub(crate) async fn remove(&self, removal: &RecordRemoval) -> Result<Vec<Record>, Failure> {
        let resolvers = self.resolvers.lock().await;
        let zone = self.zone.get();
        let left = zone.without(&removal.name, removal.data.as_ref());
        let left = left.map_err(|error| failure(FailureKind::BadRequest, chain(&error)))?;
        let removed: Vec<Record> =
            zone.records().iter().filter(|record| !left.contains(record)).cloned().collect();
        self.put_into_place(&left, &resolvers)?;
        for record in &removed {
            self.log.driver(None, &format!("a name was removed: {record}")).await;
        }
        Ok(removed)
    }

    fn put_into_place(&self, records: &[Record], resolvers: &[IpAddr]) -> Result<(), Failure> {
        let zone = self.plan.zone(records, resolvers.iter().copied());
        self.zone.set(zone.map_err(|error| failure(FailureKind::BadRequest, chain(&error)))?);
        Ok(())
    }

    /// All of it, for people.
    pub(crate) async fn status(&self) -> NamesStatus {
        let zone = self.zone.get();
        let names = zone.iter().filter_map(|(name, data)| {
            let data: Vec<String> = data.iter().filter_map(shown).collect();
            (!data.is_empty()).then(|| NameStatus { name: name.to_string(), data })
        });
        NamesStatus {
            domain: zone.domain().to_owned(),
            names: names.collect(),
            records: zone.records().to_vec(),
            resolvers: self.resolvers.lock().await.clone(),
        }
    }

    /// What a fork is to answer with, and where.
    pub(crate) async fn kept(&self) -> (Vec<Record>, Vec<IpAddr>) {
        (self.zone.get().records().to_vec(), self.resolvers.lock().await.clone())
    }
}

/// A type and a value; nothing for what every address has.
fn shown(data: &ZoneData) -> Option<String> {
    Some(match data {
        ZoneData::Address(IpAddr::V4(address)) => format!("A {address}"),
        ZoneData::Address(IpAddr::V6(address)) => format!("AAAA {address}"),
        ZoneData::Cname(name) => format!("CNAME {name}"),
        ZoneData::Txt(text) => format!("TXT {text:?}"),
        ZoneData::Ptr(_) => return None,
    })
}

impl Answerer {
    /// Answers until the group ends.
    pub(crate) async fn run(mut self) {
        let mut running: JoinSet<std::io::Result<()>> = JoinSet::new();
        loop {
            tokio::select! {
                listener = self.listeners.recv() => match listener {
                    Some(listener) => {
                        running.spawn(listener.run());
                    }
                    None => return,
                },
                Some(ended) = running.join_next() => if let Ok(Err(error)) = ended {
                    self.log.warn(None, &format!("the group's DNS answers at one address no longer: {error}")).await;
                }
            }
        }
    }
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure::new(kind, message)
}
