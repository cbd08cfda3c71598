//! The cluster: how it is configured, and how it is asked.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use steading::{Group, Vm};

/// The members, which are all VMs of the testnet.
pub(crate) const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

/// Guests under emulation on few CPUs answer late; etcd's defaults (100 and 1000 ms) would hold
/// elections all the time. Milliseconds.
const HEARTBEAT: u32 = 500;
const ELECTION: u32 = 5000;

pub(crate) struct Cluster {
    members: Vec<Vm>,
}

impl Cluster {
    pub(crate) fn of(testnet: &Group) -> Self {
        Self { members: MEMBERS.map(|name| testnet.vm(name)).into() }
    }

    pub(crate) fn members(&self) -> &[Vm] {
        &self.members
    }

    pub(crate) fn others(&self, one: &Vm) -> Vec<Vm> {
        self.members.iter().filter(|member| member.name() != one.name()).cloned().collect()
    }

    /// Configures and starts all members, and waits until they are one healthy cluster.
    pub(crate) fn form(&self) -> anyhow::Result<()> {
        let peers: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://[{}]:2380", member.name(), member.address()))
            .collect();
        for member in &self.members {
            let configuration = configuration(member, &peers.join(","));
            member.succeed(&format!(
                "cat >/etc/default/etcd <<'END'\n{configuration}END\nsystemctl enable -q etcd"
            ))?;
        }
        for member in &self.members {
            // It is active once it has found the others.
            member.succeed("systemctl start --no-block etcd")?;
        }
        self.wait_until_healthy()
    }

    /// Waits until every member says that it is healthy, and that there are as many as there should be.
    pub(crate) fn wait_until_healthy(&self) -> anyhow::Result<()> {
        for member in &self.members {
            member.wait_until_succeeds(&etcdctl("endpoint health"))?;
        }
        let list = self.members[0].succeed(&etcdctl("member list"))?;
        let started = list.lines().filter(|line| line.contains(", started, ")).count();
        ensure!(started == MEMBERS.len(), "{started} members are started, not {}:\n{list}", MEMBERS.len());
        Ok(())
    }

    pub(crate) fn write(member: &Vm, key: &str, value: &str) -> anyhow::Result<()> {
        member.succeed(&etcdctl(&format!("put {key} {value}")))?;
        Ok(())
    }

    /// Writes as soon as there is a leader.
    pub(crate) fn write_soon(member: &Vm, key: &str, value: &str) -> anyhow::Result<()> {
        member.wait_until_succeeds(&etcdctl(&format!("put {key} {value}")))?;
        Ok(())
    }

    /// Reads by consensus (etcd's reads are linearizable unless asked otherwise).
    pub(crate) fn expect(member: &Vm, key: &str, value: &str) -> anyhow::Result<()> {
        let read = member.succeed(&etcdctl(&format!("get --print-value-only {key}")))?;
        let read = read.trim();
        ensure!(read == value, "{} reads {read:?} as {key}, not {value:?}", member.name());
        Ok(())
    }

    /// How often the store has changed, as this member knows.
    pub(crate) fn revision(member: &Vm) -> anyhow::Result<u64> {
        let status = member.succeed(&etcdctl("endpoint status --write-out=json"))?;
        let number = status.split_once("\"revision\":").map(|(_, rest)| rest);
        let digits = number.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no revision in {status}"))
    }

    pub(crate) fn leader(&self) -> anyhow::Result<Vm> {
        for member in &self.members {
            if member.succeed(&etcdctl(IS_LEADER))?.trim() == "true" {
                return Ok(member.clone());
            }
        }
        anyhow::bail!("no member says that it is the leader")
    }

    /// Waits until this member knows a leader other than the old one.
    pub(crate) fn wait_for_another_leader(member: &Vm, old: &Vm) -> anyhow::Result<()> {
        let list = member.succeed(&etcdctl("member list"))?;
        let line = list.lines().find(|line| line.contains(&format!(", {}, ", old.name())));
        let id = line.and_then(|line| line.split(',').next()).context("the old leader is no member")?;
        // `endpoint status` prints numbers in decimal, `member list` in hexadecimal.
        let id =
            u64::from_str_radix(id.trim(), 16).with_context(|| format!("{id:?} is no member's number"))?;
        let status = etcdctl("endpoint status --write-out=json");
        let known = format!(r#"{status} | grep -o '"leader":[0-9]*' | grep -v ':{id}$' | grep -v ':0$'"#);
        member.wait_until_succeeds(&known)?;
        Ok(())
    }
}

/// Whether the asked member is the leader: the fifth column of its status.
const IS_LEADER: &str = "endpoint status | cut -d, -f5 | tr -d ' '";

fn etcdctl(command: &str) -> String {
    format!("ETCDCTL_API=3 etcdctl --dial-timeout=10s --command-timeout=20s {command}")
}

fn configuration(member: &Vm, peers: &str) -> String {
    let (name, address) = (member.name(), member.address());
    let settings = [
        ("NAME", name.to_owned()),
        ("LISTEN_PEER_URLS", format!("http://[{address}]:2380")),
        ("INITIAL_ADVERTISE_PEER_URLS", format!("http://[{address}]:2380")),
        ("LISTEN_CLIENT_URLS", format!("http://[{address}]:2379,http://127.0.0.1:2379")),
        ("ADVERTISE_CLIENT_URLS", format!("http://[{address}]:2379")),
        ("INITIAL_CLUSTER", peers.to_owned()),
        ("INITIAL_CLUSTER_TOKEN", "steading".to_owned()),
        ("INITIAL_CLUSTER_STATE", "new".to_owned()),
        ("HEARTBEAT_INTERVAL", HEARTBEAT.to_string()),
        ("ELECTION_TIMEOUT", ELECTION.to_string()),
    ];
    let mut text = String::new();
    for (name, value) in settings {
        writeln!(text, "ETCD_{name}={value}").expect("a String takes all");
    }
    text
}
