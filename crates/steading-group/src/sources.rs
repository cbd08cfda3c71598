//! Addresses that tests chose to speak from, in addition to the driver's own.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::sync::Arc;

use steading_api::{Failure, FailureKind, chain};
use steading_net::Network;
use steading_plan::AddressPlan;
use tokio::sync::Mutex;

use crate::GroupError;
use crate::log::Log;

/// Every address that was added.
#[derive(Debug)]
pub(crate) struct Sources {
    network: Arc<Network>,
    addresses: AddressPlan,
    log: Log,
    added: Mutex<BTreeSet<Ipv6Addr>>,
}

impl Sources {
    /// With those that a frozen group had.
    pub(crate) async fn new(
        network: Arc<Network>,
        addresses: &AddressPlan,
        log: Log,
        kept: Vec<Ipv6Addr>,
    ) -> Result<Self, GroupError> {
        let sources = Self { network, addresses: addresses.clone(), log, added: Mutex::default() };
        for address in kept {
            sources.addresses.check_source(address)?;
            sources.network.add_source(address).await?;
            sources.added.lock().await.insert(address);
        }
        Ok(sources)
    }

    /// Makes an address one of the driver's. To ask again changes nothing.
    pub(crate) async fn add(&self, address: Ipv6Addr) -> Result<(), Failure> {
        let failure = |kind, message| Failure::new(kind, message);
        let checked = self.addresses.check_source(address);
        checked.map_err(|error| failure(FailureKind::BadRequest, chain(&error)))?;
        let mut added = self.added.lock().await;
        if self.addresses.driver_addresses().contains(&address) || added.contains(&address) {
            return Ok(());
        }
        let done = self.network.add_source(address).await;
        done.map_err(|error| failure(FailureKind::Failed, chain(&error)))?;
        added.insert(address);
        self.log.driver(None, &format!("the driver has the address {address}, too")).await;
        Ok(())
    }

    /// Those that were added.
    pub(crate) async fn all(&self) -> Vec<Ipv6Addr> {
        self.added.lock().await.iter().copied().collect()
    }
}
