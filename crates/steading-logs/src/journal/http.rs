//! One HTTP exchange with systemd-journal-gatewayd.
//!
//! The connection leaves from the logs address, since firewalls under test count connections by
//! source address and the test's own budget must stay whole. It goes to a machine that may be
//! killed at any moment without a word, so the kernel is told to notice that soon. The connection is
//! driven by its reader; nothing runs in the background.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// The export format's media type.
const EXPORT_FORMAT: &str = "application/vnd.fdo.journal";

/// How long gatewayd may take to answer. It is started by the first connection, on a machine that
/// is busy booting and may be emulated.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// A peer that was silent so long is asked whether it lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// How often it is asked.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How many times it may fail to answer.
const KEEPALIVE_COUNT: u32 = 4;
/// How long what we sent may stay unacknowledged, in milliseconds.
const USER_TIMEOUT_MS: u32 = 13_000;

/// Why an exchange with a VM's journal server did not come about, or ended.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The logs address cannot be used.
    #[error(
        "cannot use {address} as the source of a connection\nhint: the driver's addresses must be on `lo` before journals are followed"
    )]
    Bind {
        /// The source address.
        address: IpAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No connection came about.
    #[error("cannot connect to the journal server {server}")]
    Connect {
        /// The server.
        server: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It did not answer.
    #[error("the journal server {server} did not answer within {} s", .limit.as_secs_f32())]
    Silent {
        /// The server.
        server: SocketAddr,
        /// How long it had.
        limit: Duration,
    },
    /// It refused.
    #[error("the journal server {server} answered {status}")]
    Status {
        /// The server.
        server: SocketAddr,
        /// Its answer.
        status: StatusCode,
    },
    /// The connection broke.
    #[error("the connection to the journal server {server} broke")]
    Broken {
        /// The server.
        server: SocketAddr,
        /// The reason.
        source: hyper::Error,
    },
}

impl HttpError {
    /// Whether a connection did not come about because its peer refused it: then there is a peer.
    pub(crate) fn is_from_the_peer(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether the server refused the request itself, so that asking the same again is of no use.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.is_client_error())
    }
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The path and query.
    pub(crate) path: &'static str,
    /// The value of the `Range` header.
    pub(crate) range: Option<String>,
}

type PlainConnection = Connection<TokioIo<TcpStream>, Empty<Bytes>>;

/// An answer that is being read.
pub(crate) struct Exchange {
    server: SocketAddr,
    connection: Option<Pin<Box<PlainConnection>>>,
    body: Incoming,
    /// Dropping it would close the connection.
    _sender: SendRequest<Empty<Bytes>>,
}

impl Exchange {
    /// Connects.
    pub(crate) async fn connect(
        server: SocketAddr,
        source: Option<IpAddr>,
        limit: Duration,
    ) -> Result<TcpStream, HttpError> {
        let connected = timeout(limit, connect(server, source)).await;
        connected.map_err(|_| HttpError::Silent { server, limit })?
    }

    /// Asks and reads the head of the answer.
    pub(crate) async fn open(server: SocketAddr, stream: TcpStream, ask: &Ask) -> Result<Self, HttpError> {
        let broken = |source| HttpError::Broken { server, source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut connection = Box::pin(connection);

        let mut request = Request::get(ask.path)
            .header(header::HOST, server.to_string())
            .header(header::ACCEPT, EXPORT_FORMAT);
        if let Some(range) = &ask.range {
            request = request.header(header::RANGE, range);
        }
        let request = request.body(Empty::new()).expect("the parts are valid, or were checked");
        let mut answer = Box::pin(sender.send_request(request));
        let limit = tokio::time::sleep(HEAD_LIMIT);
        tokio::pin!(limit);
        let mut connection_open = true;
        let response = loop {
            tokio::select! {
                biased;
                response = &mut answer => break response.map_err(broken)?,
                result = &mut connection, if connection_open => {
                    connection_open = false;
                    result.map_err(broken)?;
                }
                () = &mut limit => return Err(HttpError::Silent { server, limit: HEAD_LIMIT }),
            }
        };
        drop(answer);
        if response.status() != StatusCode::OK {
            return Err(HttpError::Status { server, status: response.status() });
        }
        let connection = connection_open.then_some(connection);
        Ok(Self { server, connection, body: response.into_body(), _sender: sender })
    }

    /// The next piece of the body; none at its orderly end. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, HttpError>> {
        loop {
            let driven = async {
                match &mut self.connection {
                    Some(connection) => connection.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                frame = self.body.frame() => match frame? {
                    Ok(frame) => if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    },
                    Err(source) => return Some(Err(HttpError::Broken { server: self.server, source })),
                },
                result = driven => {
                    self.connection = None;
                    if let Err(source) = result {
                        return Some(Err(HttpError::Broken { server: self.server, source }));
                    }
                }
            }
        }
    }
}

async fn connect(server: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, HttpError> {
    let failed = |source| HttpError::Connect { server, source };
    let socket = if server.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.map_err(failed)?;
    if let Some(address) = source {
        socket.bind(SocketAddr::new(address, 0)).map_err(|source| HttpError::Bind { address, source })?;
    }
    let watched = sockopt::set_socket_keepalive(&socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE))
        .and_then(|()| sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL))
        .and_then(|()| sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT))
        .and_then(|()| sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MS));
    watched.map_err(|errno| failed(errno.into()))?;
    socket.connect(server).await.map_err(failed)
}
