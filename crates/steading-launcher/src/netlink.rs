//! Asks the kernel for links, addresses and routes, and to change them (rtnetlink(7)). One request at a
//! time, each answered before the next.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Context as _;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use steading_plan::{IfName, KERNEL_ROUTE_METRIC, MacAddr};

/// The kernel, as it is spoken to.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An interface of the host.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// What was written to it; empty if nothing was.
    pub(crate) alias: String,
    /// The group of devices that it is in: 0 unless somebody said otherwise.
    pub(crate) group: u32,
    pub(crate) is_bridge: bool,
}

impl Netlink {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // From here on only the kernel is heard.
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self { socket: open().context("cannot open a netlink socket")?, sequence: 0 })
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_REQUEST | flags, self.sequence);
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (mut answers, mut is_torn) = (Vec::new(), false);
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages begin at multiples of 4 (NLMSG_ALIGNTO, linux/netlink.h).
                let length = usize::try_from(answer.header.length).map_err(io::Error::other)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                // It is read to its end all the same: until then the kernel lists nothing else.
                is_torn |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(_) if is_torn => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    /// All objects of a kind. A dump that a change interrupted is requested again.
    fn list(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        loop {
            match self.ask(message.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                listed => return listed,
            }
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// All interfaces.
    pub(crate) fn links(&mut self) -> anyhow::Result<Vec<Link>> {
        let listed = self.list(&RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let links = listed.context("cannot list the interfaces")?.into_iter().filter_map(|message| {
            let RouteNetlinkMessage::NewLink(message) = message else { return None };
            let (mut link, mut kind) = (
                Link {
                    index: message.header.index,
                    name: String::new(),
                    alias: String::new(),
                    group: 0,
                    is_bridge: false,
                },
                None,
            );
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => link.name = name,
                    LinkAttribute::IfAlias(alias) => link.alias = alias,
                    LinkAttribute::Group(group) => link.group = group,
                    LinkAttribute::LinkInfo(infos) => kind = Some(infos),
                    _ => {}
                }
            }
            link.is_bridge = kind.is_some_and(|infos| infos.contains(&LinkInfo::Kind(InfoKind::Bridge)));
            Some(link)
        });
        Ok(links.collect())
    }

    /// Every network that the host has an address in or a way to, but for that by default; with the
    /// interface, if it has one.
    pub(crate) fn networks(&mut self) -> anyhow::Result<Vec<(IpNet, Option<u32>)>> {
        let addresses = self.list(&RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        let addresses =
            addresses.context("cannot list the host's addresses")?.into_iter().filter_map(|message| {
                let RouteNetlinkMessage::NewAddress(message) = message else { return None };
                let index = message.header.index;
                // The address of the other end, if there is one, has a route.
                let local = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                });
                let any = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                });
                Some((IpNet::from(local.or(any)?), Some(index)))
            });
        let mut networks: Vec<_> = addresses.collect();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let routes = self
                .list(&RouteNetlinkMessage::GetRoute(message))
                .context("cannot list the host's routes")?;
            networks.extend(routes.into_iter().filter_map(route));
        }
        Ok(networks)
    }

    /// Makes a bridge, which is down. It is in this group of devices from its first moment.
    ///
    /// It has no spanning tree and no multicast snooping, as in namespaces: both would hold back the first
    /// seconds of neighbour discovery.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: MacAddr, group: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        let options = vec![InfoBridge::MulticastSnooping(false), InfoBridge::ForwardDelay(0)];
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.bytes().to_vec()),
            LinkAttribute::Group(group),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(options)),
            ]),
        ];
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Changes an interface; all at once, as far as a kill of this process goes.
    fn set(&mut self, index: u32, up: bool, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        }
        message.attributes = attributes;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link its name and its record, and then takes it out of its group of devices.
    pub(crate) fn name(&mut self, index: u32, name: &IfName, record: &str) -> io::Result<()> {
        let (name, record) = (name.to_string(), record.to_owned());
        self.set(index, false, vec![LinkAttribute::IfName(name), LinkAttribute::IfAlias(record)])?;
        self.set(index, false, vec![LinkAttribute::Group(0)])
    }

    /// Sets a link up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.set(index, true, Vec::new())
    }

    /// Makes a link a port of a bridge, up, with its record.
    pub(crate) fn attach(&mut self, index: u32, bridge: u32, record: &str) -> io::Result<()> {
        let attributes = vec![LinkAttribute::IfAlias(record.to_owned()), LinkAttribute::Controller(bridge)];
        self.set(index, true, attributes)
    }

    /// Removes a link. That there is none is as good.
    pub(crate) fn remove(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
            removed => removed,
        }
    }

    /// Adds an address. It is derived, so nobody else has it, and no route is added with one of IPv6: the
    /// one that is wanted has a source of its own.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, length: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = address.into();
        message.header.index = index;
        message.header.prefix_len = length;
        message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Local(address)];
        if address.is_ipv6() {
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Has what is sent to a network by this interface leave from this address.
    pub(crate) fn add_route(&mut self, index: u32, to: ipnet::Ipv6Net, source: Ipv6Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.header.destination_prefix_length = to.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Kernel;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet6(to.network())),
            RouteAttribute::Oif(index),
            RouteAttribute::PrefSource(RouteAddress::Inet6(source)),
            RouteAttribute::Priority(KERNEL_ROUTE_METRIC),
        ];
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }
}

/// Where a route leads to, and by which interface; none for that by default, also in two halves, as VPNs
/// write it.
fn route(message: RouteNetlinkMessage) -> Option<(IpNet, Option<u32>)> {
    const HALF: u8 = 1;
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let (mut to, mut by) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(IpAddr::from(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => to = Some(IpAddr::from(*address)),
            RouteAttribute::Oif(index) => by = Some(*index),
            _ => {}
        }
    }
    let length = message.header.destination_prefix_length;
    let network = IpNet::new(to?, length).ok()?;
    (length > HALF).then_some((network, by))
}
