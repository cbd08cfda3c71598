//! Connections to the guest from an address of the driver's.

use std::io::{self, Read as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Far more than a guest takes to answer, or to refuse.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection that the guest's program has taken, and greeted.
pub(crate) fn open(from: Ipv6Addr, to: (Ipv6Addr, u16)) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(SocketAddrV6::new(from, 0, 0, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from(to).into(), LIMIT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

/// Closes both directions, and comes back when the guest's program has done so too: from then on its
/// kernel counts the connection no more.
pub(crate) fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn allow_many() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
