//! The bridge of a group and what hangs on it.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};
use steading_plan::{AddressPlan, IfName, KERNEL_ROUTE_METRIC, MacAddr};
use tokio::task::JoinSet;

use crate::NetError;

/// The network of one group.
#[derive(Debug)]
pub struct Network {
    own: Option<Own>,
    /// Why guests can mislead the host about its routers, if they can.
    misled: Option<String>,
}

/// One in the network namespace of the process that made it.
#[derive(Debug)]
struct Own {
    handle: Handle,
    bridge: u32,
    /// Holds the task that speaks to the kernel; it ends with this value.
    _connection: JoinSet<()>,
}

impl Network {
    /// Makes the bridge, the gateway's and the driver's addresses, and the route by which the
    /// driver's traffic to VMs leaves from the management address.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a step.
    pub async fn ensure(addresses: &AddressPlan) -> Result<Self, NetError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Socket)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        skip_duplicate_address_detection();
        let misled = distrust_guests().err();
        let loopback = link_index(&handle, "lo").await?;
        set_up(&handle, loopback, &"lo").await?;
        for address in addresses.driver_addresses() {
            add_address(&handle, loopback, address.into(), 128, &"lo").await?;
        }
        let bridge = add_bridge(&handle, addresses).await?;
        let name = &addresses.bridge;
        add_address(&handle, bridge, addresses.gateway.into(), 64, name).await?;
        add_address(&handle, bridge, addresses.ipv4_gateway.into(), addresses.ipv4.prefix_len(), name)
            .await?;
        let network = Self { own: Some(Own { handle, bridge, _connection: tasks }), misled };
        network.ensure_source_route(addresses, addresses.management).await?;
        Ok(network)
    }

    /// One that the launcher has made, in the host's namespace. Nothing of it can be changed.
    pub const fn of_launcher() -> Self {
        Self { own: None, misled: None }
    }

    /// Why guests can change the host's own routes, addresses and MTU by advertising themselves as routers, if they
    /// can.
    pub fn misled(&self) -> Option<&str> {
        self.misled.as_deref()
    }

    /// Whether it can be changed.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check_own(&self) -> Result<(), NetError> {
        self.own().map(drop)
    }

    fn own(&self) -> Result<&Own, NetError> {
        self.own.as_ref().ok_or(NetError::OfLauncher)
    }

    /// Makes this an address of the host, as those of the driver are. VMs answer to it by their
    /// default router, which is the host.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn add_source(&self, address: impl Into<IpAddr>) -> Result<(), NetError> {
        let address = address.into();
        let length = if address.is_ipv6() { 128 } else { 32 };
        let handle = &self.own()?.handle;
        let loopback = link_index(handle, "lo").await?;
        add_address(handle, loopback, address, length, &"lo").await
    }

    /// Enters a VM into the neighbours of the host, as one that was known some time ago (`NUD_STALE`,
    /// ip-neighbour(8)): what is sent to it needs no solicitation first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn know(&self, address: Ipv6Addr, mac: MacAddr) -> Result<(), NetError> {
        let Own { handle, bridge, .. } = self.own()?;
        let request = handle.neighbours().add(*bridge, address.into()).link_layer_address(&mac.bytes());
        let entered = request.state(NeighbourState::Stale).replace().execute().await;
        entered.map_err(refused(|| format!("enter {address} as a neighbour")))
    }

    /// Makes this TAP a port of the bridge, and up.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or the kernel refuses.
    pub async fn attach(&self, tap: &IfName) -> Result<(), NetError> {
        self.attach_to(tap, self.own()?.bridge).await
    }

    async fn attach_to(&self, tap: &IfName, bridge: u32) -> Result<(), NetError> {
        let handle = &self.own()?.handle;
        let index = link_index(handle, tap.as_str()).await?;
        let port = LinkUnspec::new_with_index(index).controller(bridge).up().build();
        handle
            .link()
            .set(port)
            .execute()
            .await
            .map_err(refused(|| format!("make {tap} a port of the bridge")))
    }

    /// Makes a bridge for a TAP and the inner end of a relay. The host has no part in it: no address, so
    /// nothing of its own is sent there.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn add_wire(&self, name: &IfName) -> Result<(), NetError> {
        let handle = &self.own()?.handle;
        let bridge = LinkBridge::new(name.as_str()).mcast_snooping(false).forward_delay(0).build();
        handle.link().add(bridge).execute().await.map_err(refused(|| format!("add the bridge {name}")))?;
        let index = link_index(handle, name.as_str()).await?;
        let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let quiet = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]))
            .build();
        handle.link().set(quiet).execute().await.map_err(refused(|| format!("keep {name} quiet")))?;
        set_up(handle, index, name).await
    }

    /// Makes this TAP a port of such a bridge, and up. It is none of another any more.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or the kernel refuses.
    pub async fn attach_to_wire(&self, tap: &IfName, bridge: &IfName) -> Result<(), NetError> {
        self.attach_to(tap, link_index(&self.own()?.handle, bridge.as_str()).await?).await
    }

    /// Removes such a bridge.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or the kernel refuses.
    pub async fn remove_wire(&self, name: &IfName) -> Result<(), NetError> {
        let handle = &self.own()?.handle;
        let index = link_index(handle, name.as_str()).await?;
        let removed = handle.link().del(index).execute().await;
        removed.map_err(refused(|| format!("remove the bridge {name}")))
    }

    /// Makes traffic to the VMs' /64 leave from this address unless a socket says otherwise.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn ensure_source_route(
        &self,
        addresses: &AddressPlan,
        source: Ipv6Addr,
    ) -> Result<(), NetError> {
        let Own { handle, bridge, .. } = self.own()?;
        let prefix = addresses.prefix;
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .output_interface(*bridge)
            .pref_source(source)
            .priority(KERNEL_ROUTE_METRIC)
            .protocol(RouteProtocol::Kernel)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(refused(|| format!("route {prefix} from {source}")))
    }
}

/// The bridge has no spanning tree and no multicast snooping: both would hold back the first
/// seconds of neighbour discovery. Its own hardware address is fixed: it would otherwise change
/// with its ports, and its link-local address, from which routers are advertised, with it.
async fn add_bridge(handle: &Handle, addresses: &AddressPlan) -> Result<u32, NetError> {
    let name = &addresses.bridge;
    let bridge = LinkBridge::new(name.as_str())
        .address(addresses.bridge_mac.bytes().to_vec())
        .mcast_snooping(false)
        .forward_delay(0)
        .up()
        .build();
    handle.link().add(bridge).execute().await.map_err(refused(|| format!("add the bridge {name}")))?;
    link_index(handle, name.as_str()).await
}

async fn link_index(handle: &Handle, name: &str) -> Result<u32, NetError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(refused(|| format!("look up the interface {name}")))?;
    link.map(|link| link.header.index).ok_or_else(|| NetError::Missing(name.to_owned()))
}

async fn set_up(handle: &Handle, index: u32, name: &impl Display) -> Result<(), NetError> {
    let link = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(link).execute().await.map_err(refused(|| format!("set {name} up")))
}

/// The kernel adds no route for the address: the one that is wanted has a source of its own.
async fn add_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    length: u8,
    name: &impl Display,
) -> Result<(), NetError> {
    let mut request = handle.address().add(index, address, length);
    if address.is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        request.message_mut().attributes.push(AddressAttribute::Flags(flags));
    }
    request.execute().await.map_err(refused(|| format!("give {name} the address {address}/{length}")))
}

fn refused(action: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> NetError {
    move |source| NetError::Refused { action: action(), source }
}

/// The namespace is fresh and its addresses are derived, so nobody else has them; the second that
/// detection takes would be lost before the first router advertisement. Where `/proc/sys` is
/// read-only it is lost, and nothing else.
fn skip_duplicate_address_detection() {
    for scope in ["all", "default"] {
        let _ = steading_sys::sysctl::write(&format!("net/ipv6/conf/{scope}/accept_dad"), "0");
    }
}

/// Has the host believe no router and no better way that guests tell of. Interfaces that are made later have it from
/// `default`.
fn distrust_guests() -> Result<(), String> {
    for scope in ["all", "default"] {
        steading_sys::sysctl::distrust(scope).map_err(|(parameter, error)| {
            format!(
                "guests can change the driver's own routes, addresses and MTU by advertising themselves as routers: \
                 cannot set {parameter} to 0: {error}\nhint: is /proc/sys read-only here? Tests whose guests advertise routers need it writable"
            )
        })?;
    }
    Ok(())
}
