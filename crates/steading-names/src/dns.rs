//! The sockets of the DNS server: one of each kind for each address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use steading_plan::Zone;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::connections::serve_all;
use crate::{DnsTransport, answer};

/// The port of DNS (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;

/// How long a connection may be idle (RFC 7766, section 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// How many connections there may be to one address. More wait in the kernel.
const CONNECTIONS: usize = 64;

/// The table of answers. A change puts another table in its place.
#[derive(Clone, Debug)]
pub struct SharedZone(Arc<RwLock<Arc<Zone>>>);

impl SharedZone {
    /// This one.
    pub fn new(zone: Zone) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(zone))))
    }

    /// The table as it is now.
    pub fn get(&self) -> Arc<Zone> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this one.
    pub fn set(&self, zone: Zone) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }
}

/// The sockets of one address.
#[derive(Debug)]
pub struct DnsListener {
    datagrams: UdpSocket,
    connections: TcpListener,
    zone: SharedZone,
}

impl DnsListener {
    /// Listens at this address, which is the host's already.
    ///
    /// # Errors
    ///
    /// When somebody else does, or it is not the host's.
    pub async fn bind_port(address: SocketAddr, zone: SharedZone) -> io::Result<Self> {
        let datagrams = UdpSocket::bind(address).await?;
        let connections = TcpListener::bind(datagrams.local_addr()?).await?;
        Ok(Self::at(datagrams, connections, zone))
    }

    /// Listens by these sockets, which somebody has bound to the same address.
    pub const fn at(datagrams: UdpSocket, connections: TcpListener, zone: SharedZone) -> Self {
        Self { datagrams, connections, zone }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.datagrams.local_addr()
    }

    /// Answers for as long as it is let.
    ///
    /// # Errors
    ///
    /// When a socket is of no use any more.
    pub async fn run(self) -> io::Result<()> {
        let Self { datagrams, connections, zone } = self;
        tokio::select! {
            ended = answer_datagrams(&datagrams, &zone) => ended,
            never = answer_connections(&connections, &zone) => match never {},
        }
    }
}

async fn answer_datagrams(socket: &UdpSocket, zone: &SharedZone) -> io::Result<()> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        if let Some(answer) = answer(&zone.get(), &buffer[..length], DnsTransport::Udp) {
            // Who cannot be reached any more needs no answer.
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn answer_connections(listener: &TcpListener, zone: &SharedZone) -> Infallible {
    serve_all(listener, CONNECTIONS, |stream| {
        let zone = zone.clone();
        async move {
            // Its end is the client's affair.
            let _ = converse(stream, &zone).await;
        }
    })
    .await
}

/// Answers the questions of one connection, each with its length before it (RFC 1035, section 4.2.2).
async fn converse(mut stream: TcpStream, zone: &SharedZone) -> io::Result<()> {
    loop {
        let question = timeout(IDLE, async {
            let length = stream.read_u16().await?;
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await?;
            io::Result::Ok(question)
        });
        let question = question.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(answer) = answer(&zone.get(), &question, DnsTransport::Tcp) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let bytes = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(IDLE, stream.write_all(&bytes)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}
