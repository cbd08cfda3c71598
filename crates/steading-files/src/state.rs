//! What the server and its connections have in common.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::Access;
use crate::table::Table;

/// What connections have in common.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) table: RwLock<Table>,
    pub(crate) accesses: mpsc::Sender<Access>,
}

impl ServerState {
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody may listen any more.
    pub(crate) async fn tell(&self, access: Access) {
        let _ = self.accesses.send(access).await;
    }
}

/// Who is at the other end, if there is somebody still.
pub(crate) fn peer(stream: &TcpStream) -> IpAddr {
    stream.peer_addr().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}
