//! What functions do that have guests.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use steading::Group;

/// Names the addresses of other groups' VMs, with commas between them.
const FOREIGN: &str = "MISHAP_FOREIGN";

/// Names a socket where groups wait until all of them are up.
const MEETING: &str = "MISHAP_MEETING";

/// How long a connection may take that is not to come about.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Reaches each VM of this group, by its network and over SSH, and none of another.
pub(crate) fn neighbours(testnet: &Group) -> anyhow::Result<()> {
    testnet.at_once(|vm| {
        let name = vm.succeed("hostname")?;
        ensure!(name.trim() == vm.name(), "VM {} says that it is {name:?}", vm.name());
        Ok(())
    })?;
    meet()?;
    let foreign = std::env::var(FOREIGN).with_context(|| format!("{FOREIGN} is not set"))?;
    let foreign: Vec<Ipv6Addr> = foreign.split(',').map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!foreign.is_empty(), "{FOREIGN} names nobody");
    for address in foreign {
        ensure!(testnet.vms().iter().all(|vm| vm.address() != address), "{address} is one of ours");
        let reached = TcpStream::connect_timeout(&SocketAddr::from((address, 22)), ATTEMPT);
        ensure!(reached.is_err(), "{address}, of another group, answers the driver");
        testnet.vm("alpha").fail(&format!("ping -c 1 -W 1 {address}"))?;
    }
    let beta = testnet.vm("beta").address();
    testnet.vm("alpha").wait_until_succeeds(&format!("ping -c 1 -W 5 {beta}"))?;
    // Nobody leaves before all have looked.
    meet()
}

/// Returns when all groups are here. A socket's name means the same in every network namespace.
fn meet() -> anyhow::Result<()> {
    let path = std::env::var(MEETING).with_context(|| format!("{MEETING} is not set"))?;
    let mut stream = UnixStream::connect(path).context("nobody waits at the meeting")?;
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0]).context("another group did not come to the meeting")
}

/// Tells that it is there, and stays for as long as it is to, where somebody wants that.
pub(crate) fn stay_for_a_while() -> anyhow::Result<()> {
    let Ok(socket) = std::env::var(MEETING) else { return Ok(()) };
    let mut meeting = UnixStream::connect(socket)?;
    Ok(meeting.read_exact(&mut [0])?)
}
