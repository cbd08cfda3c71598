//! The ground that a group stands on: its network, the router daemon on it, and who keeps them.

use std::sync::Arc;

use rustix::process::Pid;
use steading_net::Network;
use steading_plan::{LaunchRequest, Plan};
use steading_sys::processes::{ExitWatch, Processes};
use tokio::task::JoinSet;

use crate::GroupError;
use crate::isolation::{Isolation, IsolationError};
use crate::launched::Launched;
use crate::listening::Listening;
use crate::log::Log;
use crate::router::{self, Router, RouterEnd, Way};

/// The network of a group.
pub(crate) struct Ground {
    pub(crate) network: Arc<Network>,
    /// What the launcher has handed over, where it has made the network.
    pub(crate) launched: Option<Launched>,
    pub(crate) listening: Listening,
    /// What keeps it; nothing of that is missed once the group ends.
    keeping: JoinSet<()>,
    router_end: Option<RouterEnd>,
    /// The configuration of a router daemon that starts once the guests of a fork are at rest.
    router_waits: Option<String>,
}

impl Ground {
    /// Makes the network of a plan, or has it made. The router daemon of a fork (`is_fork`) starts later.
    /// `keeper` is set to the process that keeps the network, where the kernel does not.
    pub(crate) async fn lay(
        plan: &Plan,
        isolation: &Isolation,
        is_fork: bool,
        processes: &Processes,
        log: &Log,
        keeper: &mut Option<Pid>,
    ) -> Result<Self, GroupError> {
        let mut keeping = JoinSet::new();
        let (network, launched, listening) = match isolation {
            Isolation::Namespaces => {
                (Network::ensure(&plan.addresses).await?, None, Listening::own(&plan.addresses))
            }
            Isolation::Launcher(program) => {
                let request = LaunchRequest::of(plan).map_err(IsolationError::from)?;
                let (launched, listening) = Launched::start(program, request, processes)?;
                *keeper = Some(launched.keeper());
                keeping.spawn(report_keepers_end(launched.exit(), log.clone()));
                (Network::of_launcher(), Some(launched), listening)
            }
        };
        if let Some(misled) = network.misled() {
            log.warn(None, misled).await;
        }
        let waits = is_fork && launched.is_none();
        let mut ground = Self {
            network: Arc::new(network),
            launched,
            listening,
            keeping,
            router_end: None,
            router_waits: plan.dnsmasq.clone().filter(|_| waits),
        };
        if let Some(configuration) = plan.dnsmasq.as_deref().filter(|_| !waits) {
            ground.start_router(configuration, processes, log).await?;
        }
        Ok(ground)
    }

    async fn start_router(
        &mut self,
        configuration: &str,
        processes: &Processes,
        log: &Log,
    ) -> Result<(), GroupError> {
        let launched = self.launched.as_ref();
        let way =
            launched.map_or(Way::Configured(configuration), |launched| Way::Launched(launched.router()));
        let router = Router::start(way, processes).await?;
        self.router_end = Some(router.end());
        self.keeping.spawn(router.run(log.clone()));
        Ok(())
    }

    /// Starts the router daemon of a fork, if there is one, at this time.
    pub(crate) fn start_router_at(
        &mut self,
        time: impl Future<Output = ()> + Send + 'static,
        processes: &Processes,
        log: &Log,
    ) {
        if let Some(configuration) = self.router_waits.take() {
            self.keeping.spawn(router::run_from(time, configuration, processes.clone(), log.clone()));
        }
    }

    /// Has the launcher remove its network. Returns what went wrong, if anything.
    pub(crate) async fn end(mut self) -> Option<String> {
        let launched = self.launched.take()?;
        // From here on its end is no news, and the router daemon has nobody to serve.
        self.keeping.abort_all();
        if let Some(router) = self.router_end {
            router.ended().await;
        }
        launched.end().await
    }
}

/// The group goes on without it, and its network goes with the next collection of what is left.
async fn report_keepers_end(mut keeper: ExitWatch, log: Log) {
    let exit = keeper.ended().await;
    let message = format!(
        "the launcher that keeps the group's network has ended ({exit:?}): `steading gc` would remove that network"
    );
    log.warn(None, &message).await;
}
