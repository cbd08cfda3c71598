//! What a group begins with: prepared VMs and a network without faults, or what was kept of a frozen group.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use steading_api::{ActiveFault, ActiveFileFault};
use steading_files::ServedFile;
use steading_names::AuthorityKey;
use steading_names::acme::Account;
use steading_plan::{Plan, Record};

use crate::GroupError;
use crate::config::Origin;
use crate::frozen::{Clock, FrozenGroup, OpenedGroup, Past};
use crate::key::LoginKey;
use crate::making::VmSource;

/// What a group begins with, whatever its origin.
pub(crate) struct InitialState {
    pub(crate) key: LoginKey,
    pub(crate) authority: AuthorityKey,
    pub(crate) values: HashMap<String, serde_json::Value>,
    pub(crate) vms: Vec<VmSource>,
    pub(crate) forked_from: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) network: NetworkState,
}

/// What its network offers, and does wrong.
#[derive(Default)]
pub(crate) struct NetworkState {
    pub(crate) faults: Vec<ActiveFault>,
    pub(crate) files: Vec<ServedFile>,
    pub(crate) file_faults: Vec<ActiveFileFault>,
    pub(crate) sources: Vec<Ipv6Addr>,
    pub(crate) records: Vec<Record>,
    pub(crate) resolvers: Vec<IpAddr>,
    pub(crate) accounts: Vec<Account>,
}

impl InitialState {
    pub(crate) fn of(origin: Origin, files: Vec<ServedFile>, plan: &Plan) -> Result<Self, GroupError> {
        Ok(match origin {
            Origin::Prepared(prepared) => Self {
                key: LoginKey::new()?,
                authority: AuthorityKey::new(plan.group.as_str())?,
                values: HashMap::new(),
                vms: prepared.into_iter().map(VmSource::Prepared).collect(),
                forked_from: None,
                clock: Clock::default(),
                network: NetworkState {
                    files,
                    records: plan.records.clone(),
                    resolvers: plan.resolvers.clone(),
                    ..NetworkState::default()
                },
            },
            Origin::Frozen(opened, clock) => {
                let OpenedGroup { description, vms } = *opened;
                let FrozenGroup { id, key, values, vms: past, faults, files, file_faults, .. } = description;
                let FrozenGroup { sources, records, resolvers, authority, acme_accounts: accounts, .. } =
                    description;
                let network =
                    NetworkState { faults, files, file_faults, sources, records, resolvers, accounts };
                let pasts = vms.into_iter().zip(past);
                let pasts = pasts.map(|(frozen, record)| VmSource::Past(Box::new(Past { frozen, record })));
                Self { key, authority, values, vms: pasts.collect(), forked_from: Some(id), clock, network }
            }
        })
    }
}
