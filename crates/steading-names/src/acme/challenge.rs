//! `http-01`: the server of a name on port 80 can put there what the account says (RFC 8555, section 8.3).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use steading_plan::Zone;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::problem::Problem;

/// How long one address may take. Guests under emulation are slow.
const LIMIT: Duration = Duration::from_secs(20);

/// How much of an answer is read; what is wanted has less than 100 bytes.
const ANSWER_MAX: usize = 8192;

/// How much of a wrong answer is told, in characters.
const SHOWN: usize = 80;

/// Where challenges are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// From which address, if it is by IPv6.
    pub source: Option<Ipv6Addr>,
    /// At which port: 80, but in tests.
    pub port: u16,
}

impl Asker {
    /// Asks a name, or an address, for a token, and compares.
    pub(super) async fn ask(
        self,
        zone: &Zone,
        identifier: &str,
        token: &str,
        wanted: &str,
    ) -> Result<(), Problem> {
        let addresses = match identifier.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => zone.addresses(identifier),
        };
        if addresses.is_empty() {
            let detail = format!("the group's DNS has no address for {identifier}");
            return Err(Problem::new(400, "dns", detail));
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in &addresses {
            let to = SocketAddr::new(*address, self.port);
            match timeout(LIMIT, self.connect(to))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            {
                Ok(stream) => {
                    let answer = timeout(LIMIT, get(stream, identifier, token)).await;
                    let answer = answer.map_err(|_| format!("no whole answer within {} s", LIMIT.as_secs()));
                    return compare(answer.and_then(|answer| answer), to, token, wanted);
                }
                Err(error) => last = error,
            }
        }
        let at: Vec<String> =
            addresses.iter().map(|address| SocketAddr::new(*address, self.port).to_string()).collect();
        let detail = format!("cannot connect to {identifier} at {}: {last}", at.join(", "));
        Err(Problem::new(400, "connection", detail))
    }

    async fn connect(self, to: SocketAddr) -> io::Result<TcpStream> {
        if to.is_ipv4() {
            return TcpStream::connect(to).await;
        }
        let socket = TcpSocket::new_v6()?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        socket.connect(to).await
    }
}

/// The body of the answer; what went wrong.
async fn get(stream: TcpStream, host: &str, token: &str) -> Result<Vec<u8>, String> {
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // Its error reaches the caller by the sender.
        let _ = connection.await;
    });
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = Request::get(format!("/.well-known/acme-challenge/{token}"))
        .header("host", host)
        .header("user-agent", "steading-acme")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(said)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the status {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
}

fn compare(
    answer: Result<Vec<u8>, String>,
    from: SocketAddr,
    token: &str,
    wanted: &str,
) -> Result<(), Problem> {
    let at = format!("http://{from}/.well-known/acme-challenge/{token}");
    match answer {
        // White space at the end is allowed.
        Ok(body) if body.trim_ascii_end() == wanted.as_bytes() => Ok(()),
        Ok(body) => {
            let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
            let detail = format!("{at} answered {shown:?}, and {wanted:?} was wanted");
            Err(Problem::new(403, "incorrectResponse", detail))
        }
        Err(why) => Err(Problem::new(403, "unauthorized", format!("{at} answered with {why}"))),
    }
}
