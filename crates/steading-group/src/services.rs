//! The services that a group offers to its guests and tests, on the ground that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use steading_names::AuthorityKey;
use steading_plan::Plan;
use tokio::task::JoinSet;

use crate::GroupError;
use crate::beginning::NetworkState;
use crate::certificates::Certificates;
use crate::faults::{Faults, Numbers};
use crate::files::Files;
use crate::ground::Ground;
use crate::log::Log;
use crate::names::Names;
use crate::sources::Sources;
use crate::targets;
use crate::time::Time;
use crate::vm::VmHandle;

/// What requests reach them by.
pub(crate) struct Services {
    pub(crate) faults: Faults,
    pub(crate) files: Files,
    pub(crate) sources: Sources,
    pub(crate) names: Names,
    pub(crate) certificates: Certificates,
}

impl Services {
    /// Starts all of them, before any VM runs: one that goes on finds its network as it was.
    pub(crate) async fn start(
        plan: &Plan,
        ground: &Ground,
        (state, authority): (NetworkState, AuthorityKey),
        vms: &BTreeMap<String, VmHandle>,
        log: &Log,
        background: &mut JoinSet<()>,
    ) -> Result<Self, GroupError> {
        let (network, listening) = (&ground.network, &ground.listening);
        let numbers = Numbers::default();
        let sources = Sources::new(Arc::clone(network), &plan.addresses, log.clone(), state.sources).await?;
        let (names, answerer) = Names::start(
            plan,
            Arc::clone(network),
            listening.clone(),
            log.clone(),
            &state.records,
            state.resolvers,
        )
        .await?;
        background.spawn(answerer.run());
        let (certificates, acme) = Certificates::start(
            &plan.addresses,
            listening,
            names.zone(),
            authority,
            state.accounts,
            log.clone(),
        )
        .await?;
        background.spawn(acme.run());
        let faults =
            Faults::new(plan, Arc::clone(network), log.clone(), numbers.clone(), state.faults).await?;
        let (files, reporter) =
            Files::start(plan, log.clone(), numbers, state.files, state.file_faults).await?;
        background.spawn(reporter.run());
        background.spawn(Time::start(plan, listening, log.clone()).await?.run());
        background.spawn(targets::keep(files.clone(), vms.values().cloned().collect()));
        Ok(Self { faults, files, sources, names, certificates })
    }
}
