//! The server: a socket, and an answer to each request.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use tokio::net::UdpSocket;

use crate::packet::{LENGTH, Timestamp, answer};

/// A time server at one address.
#[derive(Debug)]
pub struct TimeServer {
    socket: UdpSocket,
}

impl TimeServer {
    /// Listens there.
    ///
    /// # Errors
    ///
    /// When nobody can.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::at(UdpSocket::bind(address).await?))
    }

    /// Answers by this socket, which somebody has bound.
    pub const fn at(socket: UdpSocket) -> Self {
        Self { socket }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers the next request, and tells whose it was.
    ///
    /// # Errors
    ///
    /// When the socket is of no use any more.
    pub async fn serve_next(&self) -> io::Result<IpAddr> {
        // What follows in a packet, such as a signature, is not looked at.
        let mut request = [0; LENGTH];
        loop {
            let (length, peer) = match self.socket.recv_from(&mut request).await {
                Ok(received) => received,
                // An earlier answer could not be delivered (ip(7)); that is its receiver's loss.
                Err(error) if is_of_a_peer(&error) => continue,
                Err(error) => return Err(error),
            };
            let received = Timestamp::of(SystemTime::now());
            let answered = answer(&request[..length], received, Timestamp::of(SystemTime::now()));
            if let Some(answered) = answered {
                // Whoever does not get it asks again.
                let _ = self.socket.send_to(&answered, peer).await;
                return Ok(peer.ip().to_canonical());
            }
        }
    }
}

fn is_of_a_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_gets_the_time_and_others_nothing() -> io::Result<()> {
        let server = TimeServer::bind(([127, 0, 0, 1], 0).into()).await?;
        let client = UdpSocket::bind("127.0.0.1:0").await?;
        client.connect(server.address()?).await?;
        client.send(b"no request").await?;
        let mut request = [0; LENGTH];
        request[0] = 0x23;
        client.send(&request).await?;
        let before = Timestamp::of(SystemTime::now()).to_be_bytes();
        assert_eq!(server.serve_next().await?, client.local_addr()?.ip());
        let mut answered = [0; 100];
        assert_eq!(client.recv(&mut answered).await?, LENGTH);
        assert!(answered[40..48] >= before[..], "{answered:?} is before {before:?}");
        Ok(())
    }
}
