//! The sockets of the group's services: opened here where the group has a network namespace of its own, and
//! taken from the launcher elsewhere, since they are below port 1024.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use steading_plan::{AddressPlan, LaunchRequest, ServiceAddress, Transport};
use tokio::net::{TcpListener, UdpSocket};

/// Where services listen, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    gateways: Vec<IpAddr>,
    /// By the name that the launcher gives them.
    given: Option<Arc<Mutex<HashMap<String, OwnedFd>>>>,
}

impl Listening {
    /// In a namespace of the group's own.
    pub(crate) fn own(addresses: &AddressPlan) -> Self {
        Self { gateways: vec![addresses.gateway.into(), addresses.ipv4_gateway.into()], given: None }
    }

    /// With these that the launcher has bound.
    pub(crate) fn given(request: &LaunchRequest, sockets: HashMap<String, OwnedFd>) -> Self {
        let gateways = request.gateways().into_iter().map(|(address, _)| address).collect();
        Self { gateways, given: Some(Arc::new(Mutex::new(sockets))) }
    }

    /// The addresses of the gateway, at which the group's services answer.
    pub(crate) fn gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// A socket for datagrams at this address.
    pub(crate) async fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        match self.take(Transport::Udp, address)? {
            None => UdpSocket::bind(address).await,
            Some(socket) => {
                let socket = std::net::UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket)
            }
        }
    }

    /// A socket for connections to this address.
    pub(crate) async fn tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.take(Transport::Tcp, address)? {
            None => TcpListener::bind(address).await,
            Some(socket) => {
                let socket = std::net::TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)
            }
        }
    }

    fn take(&self, transport: Transport, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        let Some(given) = &self.given else { return Ok(None) };
        let name = ServiceAddress { transport, address }.to_string();
        let socket = given.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        socket.map(Some).ok_or_else(|| io::Error::other(format!("the launcher has bound no {name}")))
    }
}
