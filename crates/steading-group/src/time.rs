//! The group's time server, for guests whose clocks are wrong.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use steading_plan::{Plan, VmName};
use steading_time::{NTP_PORT, TimeServer};

use crate::GroupError;
use crate::listening::Listening;
use crate::log::Log;

/// It answers at the gateway's addresses, where routers do.
pub(crate) struct Time {
    servers: Vec<TimeServer>,
    names: HashMap<IpAddr, VmName>,
    log: Log,
}

impl Time {
    pub(crate) async fn start(plan: &Plan, listening: &Listening, log: Log) -> Result<Self, GroupError> {
        let mut servers = Vec::new();
        for address in listening.gateways() {
            let socket = listening.udp((*address, NTP_PORT).into()).await;
            servers.push(TimeServer::at(socket.map_err(GroupError::io("start the time server"))?));
        }
        Ok(Self { servers, names: plan.names_of_addresses(), log })
    }

    /// Answers. That a VM asks is told once.
    pub(crate) async fn run(self) {
        let Self { servers, names, log } = self;
        let answering = servers.iter().map(|server| async {
            let mut known = BTreeSet::new();
            loop {
                match server.serve_next().await {
                    Ok(peer) if known.insert(peer) => {
                        let vm = names.get(&peer);
                        let who = if vm.is_some() { String::new() } else { format!("{peer}: ") };
                        log.driver(vm, &format!("{who}asks for the time, and is told")).await;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        log.warn(None, &format!("the time server has ended: {error}")).await;
                        return;
                    }
                }
            }
        });
        futures::future::join_all(answering).await;
    }
}
