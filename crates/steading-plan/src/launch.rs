//! What the launcher is told of a group, and what it derives from that.
//!
//! The launcher has capabilities in the host's network, and who starts it has none. So it takes names alone:
//! every interface, address, route, port and line of configuration follows from these, here, in the same
//! way for who asks and for who does.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::engines::Cards;
use crate::{AddressPlan, Addressing, Engine, GroupName, IfName, MacAddr, NameError, Plan, VmName, dnsmasq};

/// How many VMs a group may have there: a bridge has 1023 ports (`BR_MAX_PORTS`, `net/bridge/br_private.h`),
/// and this is far more than a host runs.
pub const LAUNCHED_VMS_MAX: usize = 128;

/// What follows a VM's name when it has a second card.
const SECOND_CARD: &str = "+ipv4";

/// The ports below 1024 at which a group answers on its gateway's addresses: DNS (RFC 1035, section 4.2),
/// NTP (RFC 5905, section 7.2), ACME (RFC 8555, section 6.1: HTTPS).
const SERVICES: [(Transport, u16); 4] =
    [(Transport::Udp, 53), (Transport::Tcp, 53), (Transport::Udp, 123), (Transport::Tcp, 443)];

/// The names of a group and of its VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRequest {
    group: GroupName,
    vms: Vec<(VmName, bool)>,
}

/// Names that the launcher does not take, or a plan that it cannot make.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LaunchError {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No group.
    #[error("no group is named\nhint: GROUP [VM|VM+ipv4]...")]
    NoGroup,
    /// More than it takes.
    #[error("{0} VMs are more than {LAUNCHED_VMS_MAX}")]
    TooMany(usize),
    /// Two VMs whose cards would be the same.
    #[error("two VMs lead to the interface {0}\nhint: give each its own name")]
    Duplicate(IfName),
    /// Its TAPs come open, and libvirt opens them by name.
    #[error(
        "the engine {0} does not take network cards from the launcher\nhint: use --engine qemu, or a host with user namespaces (--isolation namespaces)"
    )]
    Engine(Engine),
    /// It derives addresses, and these are chosen.
    #[error(
        "the launcher gives groups the addresses that follow from their names, and this testnet asks for {0}\nhint: leave that out, or use a host with user namespaces (--isolation namespaces)"
    )]
    Chosen(&'static str),
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// Where a service of the group listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress {
    /// By what.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        write!(f, "{transport} {}", self.address)
    }
}

impl LaunchRequest {
    /// What is to be said of this plan.
    ///
    /// # Errors
    ///
    /// When the plan has what does not follow from names.
    pub fn of(plan: &Plan) -> Result<Self, LaunchError> {
        // One inside another has the network card that its host gives it.
        let vms = plan.vms.iter().filter(|vm| vm.spec.inside.is_none());
        let vms = vms.map(|vm| (vm.name.clone(), vm.second_mac.is_some())).collect();
        let request = Self { group: plan.group.clone(), vms }.checked()?;
        if plan.engine.capabilities().cards != Cards::Descriptors {
            return Err(LaunchError::Engine(plan.engine));
        }
        if plan.addresses != request.addresses() {
            return Err(LaunchError::Chosen("a prefix of its own"));
        }
        if !plan.resolvers.is_empty() {
            return Err(LaunchError::Chosen("the addresses of resolvers"));
        }
        Ok(request)
    }

    /// Reads the words of a command line: the group's name, and the VMs'.
    ///
    /// # Errors
    ///
    /// When a word is no such name, or there are too many.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, LaunchError> {
        let mut words = words.into_iter();
        let group = words.next().ok_or(LaunchError::NoGroup)?.parse()?;
        let vms = words.map(|word| {
            let (name, second) = word.strip_suffix(SECOND_CARD).map_or((word, false), |name| (name, true));
            Ok((name.parse()?, second))
        });
        let vms = vms.collect::<Result<Vec<_>, NameError>>()?;
        Self { group, vms }.checked()
    }

    fn checked(self) -> Result<Self, LaunchError> {
        if self.vms.len() > LAUNCHED_VMS_MAX {
            return Err(LaunchError::TooMany(self.vms.len()));
        }
        let mut taps = self.taps();
        taps.sort();
        match taps.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(LaunchError::Duplicate(pair[0].clone())),
            None => Ok(self),
        }
    }

    /// The words of it, as they are read.
    pub fn words(&self) -> Vec<String> {
        let vms =
            self.vms.iter().map(|(name, second)| format!("{name}{}", if *second { SECOND_CARD } else { "" }));
        std::iter::once(self.group.to_string()).chain(vms).collect()
    }

    /// The group's name.
    pub const fn group(&self) -> &GroupName {
        &self.group
    }

    /// Every address that belongs to no single VM.
    pub fn addresses(&self) -> AddressPlan {
        AddressPlan::derive(&self.group, None).expect("a prefix of its own has room for all")
    }

    /// Whether there are second cards. Without any the group has no IPv4, so that it fits into hosts
    /// whose own network has all of `10.0.0.0/8`.
    pub fn has_ipv4(&self) -> bool {
        self.vms.iter().any(|(_, second)| *second)
    }

    /// The addresses of the gateway, each with its network.
    pub fn gateways(&self) -> Vec<(IpAddr, u8)> {
        let plan = self.addresses();
        let ipv6 = (plan.gateway.into(), plan.prefix.prefix_len());
        let ipv4 = self.has_ipv4().then(|| (plan.ipv4_gateway.into(), plan.ipv4.prefix_len()));
        std::iter::once(ipv6).chain(ipv4).collect()
    }

    /// All that the group takes of the host's addresses.
    pub fn networks(&self) -> Vec<IpNet> {
        let plan = self.addresses();
        let drivers = plan.driver_addresses().map(|address| IpNet::from(IpAddr::from(address)));
        let ipv4 = self.has_ipv4().then(|| plan.ipv4.into());
        std::iter::once(plan.prefix.into()).chain(drivers).chain(ipv4).collect()
    }

    /// The TAPs of all cards.
    pub fn taps(&self) -> Vec<IfName> {
        let of_vm = |(vm, second): &(VmName, bool)| {
            let first = IfName::tap(&self.group, vm);
            std::iter::once(first).chain(second.then(|| IfName::second_tap(&self.group, vm)))
        };
        self.vms.iter().flat_map(of_vm).collect()
    }

    /// Where the group's services listen, for which a privilege is needed.
    pub fn endpoints(&self) -> Vec<ServiceAddress> {
        let at = |(address, _): (IpAddr, u8)| {
            SERVICES.map(|(transport, port)| ServiceAddress { transport, address: (address, port).into() })
        };
        self.gateways().into_iter().flat_map(at).collect()
    }

    /// The router daemon's configuration.
    pub fn dnsmasq(&self) -> String {
        let addresses = self.addresses();
        let second = self.vms.iter().filter(|(_, second)| *second);
        let macs = second.map(|(vm, _)| MacAddr::of_second_card(&self.group, vm));
        let given = addresses.second_addresses().map(Some).chain(std::iter::repeat(None));
        let cards: Vec<_> = macs.zip(given).collect();
        dnsmasq::configuration(&addresses, Addressing::Router, cards).unwrap_or_default()
    }
}

/// How the record of an interface begins, with the version of what follows.
const RECORD: &str = "steading 1";

/// Who made an interface: kept by the kernel as its alias, which nobody without `CAP_NET_ADMIN` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceRecord {
    /// The user.
    pub uid: u32,
    /// The process that is there for as long as the interface is to be.
    pub keeper: ProcessMark,
    /// The group.
    pub group: GroupName,
}

/// A process, told from all that had its number before or will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessMark {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot (`starttime`, proc_pid_stat(5)).
    pub start: u64,
    /// The PID namespace in which the number means something (pid_namespaces(7)).
    pub namespace: u64,
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, start, namespace } = self;
        write!(f, "{pid}-{start}-{namespace}")
    }
}

/// A text that tells no process.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} tells no process: NUMBER-START-NAMESPACE is wanted")]
pub struct ParseMarkError(String);

impl FromStr for ProcessMark {
    type Err = ParseMarkError;

    fn from_str(text: &str) -> Result<Self, ParseMarkError> {
        let read = || {
            let mut parts = text.split('-');
            let mut number = || parts.next()?.parse::<u64>().ok();
            let mark = Self { pid: i32::try_from(number()?).ok()?, start: number()?, namespace: number()? };
            // Another way to write the same is not ours.
            (mark.pid > 0 && parts.next().is_none() && mark.to_string() == text).then_some(mark)
        };
        read().ok_or_else(|| ParseMarkError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for InterfaceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, keeper, group } = self;
        write!(f, "{RECORD} uid={uid} keeper={keeper} group={group}")
    }
}

impl InterfaceRecord {
    /// Reads an alias. None when it is no record of ours, as those of all other interfaces are.
    pub fn parse(alias: &str) -> Option<Self> {
        let mut fields = alias.strip_prefix(RECORD)?.strip_prefix(' ')?.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        let uid = field("uid")?.parse().ok()?;
        let keeper = field("keeper")?.parse().ok()?;
        let record = Self { uid, keeper, group: field("group")?.parse().ok()? };
        // Nothing may follow, and there is one way to write it.
        (record.to_string() == alias).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Boot, HostFacts, ImageSource, Testnet, VmSpec};

    use super::*;

    fn plan(testnet: &Testnet) -> Plan {
        let host = HostFacts::default();
        Plan::derive(&"east".parse().unwrap(), testnet, &host).unwrap()
    }

    fn vm(name: &str) -> VmSpec {
        VmSpec::new(name, Boot::Bios).disk(ImageSource::new("/disk"))
    }

    fn request(words: &str) -> Result<LaunchRequest, LaunchError> {
        LaunchRequest::parse(words.split_whitespace())
    }

    #[test]
    fn what_the_launcher_derives_is_what_was_planned() {
        let plan = plan(&Testnet::new().vm(vm("a").second_card()).vm(vm("b")).vm(vm("c").second_card()));
        let asked = LaunchRequest::of(&plan).unwrap();
        assert_eq!(asked.words(), ["east", "a+ipv4", "b", "c+ipv4"]);
        let read = request("east a+ipv4 b c+ipv4").unwrap();
        assert_eq!(read, asked);
        assert_eq!(read.addresses(), plan.addresses);
        let taps: Vec<_> = plan.vms.iter().flat_map(|vm| vm.taps().map(|(_, tap)| tap.clone())).collect();
        assert_eq!(read.taps(), taps);
        assert_eq!(Some(read.dnsmasq()), plan.dnsmasq);
    }

    #[test]
    fn a_group_without_second_cards_takes_nothing_of_the_hosts_ipv4() {
        let (without, with) = (request("east a").unwrap(), request("east a+ipv4").unwrap());
        let is_ipv4 = |network: &IpNet| network.addr().is_ipv4();
        assert!(!without.networks().iter().any(is_ipv4) && with.networks().iter().any(is_ipv4));
        assert_eq!((without.endpoints().len(), with.endpoints().len()), (4, 8));
        assert_eq!(with.endpoints()[0].to_string(), format!("udp [{}]:53", with.addresses().gateway));
    }

    #[test]
    fn what_does_not_follow_from_names_is_refused() {
        let prefix = Testnet::new().prefix("2001:db8:7:1::/64".parse().unwrap());
        assert_eq!(LaunchRequest::of(&plan(&prefix)), Err(LaunchError::Chosen("a prefix of its own")));
        let resolver = Testnet::new().resolver(std::net::Ipv4Addr::new(9, 9, 9, 9));
        assert!(matches!(LaunchRequest::of(&plan(&resolver)), Err(LaunchError::Chosen(_))));
        let libvirt = Plan { engine: Engine::Libvirt, ..plan(&Testnet::new()) };
        assert_eq!(LaunchRequest::of(&libvirt), Err(LaunchError::Engine(Engine::Libvirt)));
    }

    #[test]
    fn only_names_are_read() {
        for wrong in [
            "",
            "East",
            "../east",
            "east a b a",
            "east a a+ipv4",
            "east a+ipv4+ipv4",
            "east +ipv4",
            "east a+ipv6",
        ] {
            assert!(request(wrong).is_err(), "{wrong:?}");
        }
        let many = |count| request(&(0..=count).map(|n| format!("n{n}")).collect::<Vec<_>>().join(" "));
        assert!(many(LAUNCHED_VMS_MAX).is_ok());
        assert_eq!(many(LAUNCHED_VMS_MAX + 1), Err(LaunchError::TooMany(LAUNCHED_VMS_MAX + 1)));
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_like_it_is() {
        let keeper = ProcessMark { pid: 7, start: 99, namespace: 4_026_531_836 };
        let group = "g".repeat(63).parse().unwrap();
        let record = InterfaceRecord { uid: u32::MAX, keeper, group };
        let text = record.to_string();
        assert!(text.len() < 256, "an alias has less than IFALIASZ (linux/if.h) bytes");
        assert_eq!(InterfaceRecord::parse(&text), Some(record));
        for wrong in [
            "",
            "steading 1",
            "steading 2 uid=1 keeper=7-99-1 group=g",
            "steading 1 uid=1 keeper=7-99-1 group=g ",
            "steading 1 uid=01 keeper=7-99-1 group=g",
            "steading 1 uid=1 keeper=0-99-1 group=g",
            "steading 1 uid=1 keeper=7-99 group=g",
            "steading 1 uid=1 keeper=7-99-1-1 group=g",
            "steading 1 uid=1 group=g keeper=7-99-1",
            " steading 1 uid=1 keeper=7-99-1 group=g",
        ] {
            assert_eq!(InterfaceRecord::parse(wrong), None, "{wrong:?}");
        }
        assert!(InterfaceRecord::parse("steading 1 uid=1 keeper=7-99-1 group=g").is_some());
    }
}
