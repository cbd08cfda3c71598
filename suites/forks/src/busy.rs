//! What keeps the guests busy while they are frozen: a connection between them, and a journal.

use anyhow::{Context as _, ensure};
use steading::{Group, Vm};

/// On the server: says again what it hears, on each connection.
const SERVE: &str = "systemd-run --unit=echo systemd-socket-activate --accept --inetd -l 7000 cat";

/// On the client: one connection, on which it counts aloud and hears what comes back. Should that
/// ever end, it ends, too.
const COUNT: &str = r#"#!/bin/bash
exec 3<>"/dev/tcp/$1/7000" || exit 1
echo $$ >/run/counter.pid
number=0
while sleep 0.3; do
    number=$((number + 1))
    echo "$number" >&3 || exit 1
    read -r -t 60 heard <&3 || exit 1
    [ "$heard" = "$number" ] || exit 1
    echo "$number" >/run/count.new && mv /run/count.new /run/count
    echo "counted $number times"
done
"#;

pub(crate) struct Busy {
    client: Vm,
    server: Vm,
}

impl Busy {
    pub(crate) fn of(testnet: &Group) -> Self {
        Self { client: testnet.vm("client"), server: testnet.vm("server") }
    }

    pub(crate) fn begin(&self) -> anyhow::Result<()> {
        self.server.succeed("echo 'set up' >/root/set-up && sync")?;
        self.server.succeed(SERVE)?;
        self.server.wait_for_open_port(7000)?;
        self.client.succeed(&format!("cat >/root/count <<'END'\n{COUNT}END\nchmod +x /root/count"))?;
        let address = self.server.address();
        self.client.succeed(&format!("systemd-run --unit=count /root/count {address}"))?;
        self.client.wait_until_succeeds("test -e /run/count")?;
        Ok(())
    }

    /// It is still the connection that was opened at first, and more comes over it.
    pub(crate) fn goes_on(&self) -> anyhow::Result<()> {
        let pid = self.client.succeed("cat /run/counter.pid")?;
        let counted: u64 = self.client.succeed("cat /run/count")?.trim().parse().context("no number")?;
        self.client.wait_until_succeeds(&format!("test $(cat /run/count) -gt {}", counted + 3))?;
        let still = self.client.succeed("systemctl show --property=MainPID --value count")?;
        ensure!(still == pid, "it was process {pid} that counted, and is {still}");
        Ok(())
    }
}
