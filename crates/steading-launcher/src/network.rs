//! The network of a group in the host's own: how it is made, whose it is, and how it goes.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use steading_plan::{InterfaceRecord, LaunchRequest, ProcessMark, Transport};
use steading_sys::mark::{Life, life};
use steading_sys::{sysctl, tap};

use crate::caller::Caller;
use crate::handover::Handover;
use crate::netlink::{Link, Netlink};

/// How many groups one user may have at a time: far more than a host runs, and few enough that nobody makes
/// so many interfaces that the host suffers.
const GROUPS_MAX: usize = 256;

/// What a bridge is called until it has its name and its record, with the number of its maker after it.
/// No name that is derived begins so.
const UNFINISHED: &str = "vbr+";

/// What goes beyond [`sysctl::DISTRUST`] on a group's bridge in the host's own network: the host believes no sender
/// that is elsewhere, and forwards nothing from there.
const PRECAUTIONS: [(&str, &str, &str); 3] =
    [("ipv6", "forwarding", "0"), ("ipv4", "rp_filter", "1"), ("ipv4", "forwarding", "0")];

/// Makes the network of a group, and hands it over. Whatever fails, nothing is left.
pub(crate) fn make(
    netlink: &mut Netlink,
    request: &LaunchRequest,
    caller: &Caller,
    handover: &Handover,
) -> anyhow::Result<()> {
    let record = record(request, caller);
    let links = netlink.links()?;
    let ours = links.iter().filter(|link| link.is_bridge && of_user(link, caller.uid).is_some());
    ensure!(
        ours.count() < GROUPS_MAX,
        "you have {GROUPS_MAX} groups already\nhint: `steading gc` removes what is left of those that have ended"
    );
    let bridge = &request.addresses().bridge;
    if let Some(there) = links.iter().find(|link| link.name == bridge.as_str()) {
        bail!("{}", in_the_way(there, request, caller));
    }
    check_free(netlink, request, None)?;
    let made = fill(netlink, request, caller, &record, handover);
    made.inspect_err(|_| {
        // What was wrong matters; that it cannot be undone either shows at the next `gc`.
        let _ = undo(netlink, &record);
    })
}

fn record(request: &LaunchRequest, caller: &Caller) -> InterfaceRecord {
    InterfaceRecord { uid: caller.uid, keeper: caller.mark, group: request.group().clone() }
}

fn fill(
    netlink: &mut Netlink,
    request: &LaunchRequest,
    caller: &Caller,
    record: &InterfaceRecord,
    handover: &Handover,
) -> anyhow::Result<()> {
    let plan = request.addresses();
    let name = &plan.bridge;
    let record = record.to_string();
    let bridge = add_bridge(netlink, request, caller, &record)?;
    for (family, parameter, value) in sysctl::DISTRUST.into_iter().chain(PRECAUTIONS) {
        let path = format!("net/{family}/conf/{name}/{parameter}");
        sysctl::write(&path, value).with_context(|| {
            format!("cannot set {path} to {value}, without which guests could mislead the host\nhint: is /proc/sys read-only here?")
        })?;
    }
    // Addresses are derived, so nobody else has them; looking for that would delay the first advertisement.
    // Where it cannot be left out the second is lost, and nothing else.
    let _ = sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
    netlink.set_up(bridge).with_context(|| format!("cannot set {name} up"))?;
    let drivers = plan.driver_addresses().map(|address| (address.into(), 128));
    for (address, length) in request.gateways().into_iter().chain(drivers) {
        netlink
            .add_address(bridge, address, length)
            .with_context(|| format!("cannot give {name} the address {address}/{length}"))?;
    }
    netlink
        .add_route(bridge, plan.prefix, plan.management)
        .with_context(|| format!("cannot route {} from {}", plan.prefix, plan.management))?;
    // Two that begin at the same moment see each other by now.
    check_free(netlink, request, Some(bridge))?;
    for tap in request.taps() {
        let device = tap::create_new(&tap)?;
        let index = index(netlink, tap.as_str())?;
        netlink
            .attach(index, bridge, &record)
            .with_context(|| format!("cannot make {tap} a port of {name}"))?;
        handover.give(&format!("tap {tap}"), device.as_fd())?;
    }
    for endpoint in request.endpoints() {
        let failed = || {
            format!(
                "cannot listen at {endpoint}\nhint: a service of this host that listens everywhere may be there; `ss -lnp` shows it"
            )
        };
        match endpoint.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(endpoint.address).with_context(failed)?;
                handover.give(&endpoint.to_string(), socket.as_fd())?;
            }
            Transport::Tcp => {
                let socket = TcpListener::bind(endpoint.address).with_context(failed)?;
                handover.give(&endpoint.to_string(), socket.as_fd())?;
            }
        }
    }
    Ok(())
}

/// Makes the bridge, and gives it its name and its record in one step, so that a kill at any moment leaves
/// nothing of which it is not known whose it is.
fn add_bridge(
    netlink: &mut Netlink,
    request: &LaunchRequest,
    caller: &Caller,
    record: &str,
) -> anyhow::Result<u32> {
    let plan = request.addresses();
    let unfinished = format!("{UNFINISHED}{}", caller.mark.pid);
    netlink
        .add_bridge(&unfinished, plan.bridge_mac, caller.uid)
        .context("cannot make a bridge\nhint: does the kernel have bridges? As root: modprobe bridge")?;
    let bridge = index(netlink, &unfinished)?;
    let named = netlink.name(bridge, &plan.bridge, record);
    named
        .with_context(|| {
            format!("cannot name the bridge {}; was a group of this name made just now?", plan.bridge)
        })
        .inspect_err(|_| {
            // As above.
            let _ = netlink.remove(bridge);
        })?;
    Ok(bridge)
}

fn index(netlink: &mut Netlink, name: &str) -> anyhow::Result<u32> {
    let link = netlink.links()?.into_iter().find(|link| link.name == name);
    link.map(|link| link.index).with_context(|| format!("there is no interface {name}, which was just made"))
}

/// Refuses a group that would take what the host has, but for what is on its own bridge.
fn check_free(netlink: &mut Netlink, request: &LaunchRequest, own: Option<u32>) -> anyhow::Result<()> {
    let wanted = request.networks();
    for (there, by) in netlink.networks()? {
        let overlaps = |wanted: &&IpNet| wanted.contains(&there) || there.contains(*wanted);
        if let Some(wanted) = wanted.iter().find(overlaps).filter(|_| by.is_none() || by != own) {
            bail!(
                "the group {} would take {wanted}, and this host has {there} already\nhint: give the group another name; its addresses follow from that",
                request.group()
            );
        }
    }
    Ok(())
}

/// The record of a link, if it is of this user.
fn of_user(link: &Link, uid: u32) -> Option<InterfaceRecord> {
    InterfaceRecord::parse(&link.alias).filter(|record| record.uid == uid)
}

fn in_the_way(there: &Link, request: &LaunchRequest, caller: &Caller) -> String {
    let group = request.group();
    let (who, hint) = match InterfaceRecord::parse(&there.alias) {
        Some(record) if record.uid != caller.uid => ("another user has", "give it another name"),
        Some(record) if life(&record.keeper) == Life::Ended => {
            ("you had", "`steading gc` removes what is left of it")
        }
        Some(_) => ("you have", "give it another name, or end the other"),
        None => ("somebody has", "it is none of the launcher's; give the group another name"),
    };
    format!("{who} a group {group}: there is an interface {}\nhint: {hint}", there.name)
}

/// Whether the group's bridge is there, and of this user.
pub(crate) fn check_ours(
    netlink: &mut Netlink,
    request: &LaunchRequest,
    caller: &Caller,
) -> anyhow::Result<()> {
    let bridge = request.addresses().bridge;
    let links = netlink.links()?;
    let ours =
        links.iter().filter(|link| link.name == bridge.as_str()).find_map(|link| of_user(link, caller.uid));
    let is_it =
        ours.is_some_and(|record| record.group == *request.group() && life(&record.keeper) == Life::Lives);
    ensure!(is_it, "you have no group {} that runs", request.group());
    Ok(())
}

/// Removes all that this process made for its caller.
pub(crate) fn undo(netlink: &mut Netlink, record: &InterfaceRecord) -> anyhow::Result<()> {
    remove(netlink, |link| InterfaceRecord::parse(&link.alias).as_ref() == Some(record)).map(drop)
}

/// The same, of the group that was made.
pub(crate) fn undo_request(
    netlink: &mut Netlink,
    request: &LaunchRequest,
    caller: &Caller,
) -> anyhow::Result<()> {
    undo(netlink, &record(request, caller))
}

/// Removes what is left of the caller's groups whose keepers have ended; the names of what was removed.
pub(crate) fn collect(netlink: &mut Netlink, caller: &Caller) -> anyhow::Result<Vec<String>> {
    remove(netlink, |link| is_left(link, caller))
}

fn is_left(link: &Link, caller: &Caller) -> bool {
    let keeper = of_user(link, caller.uid).map(|record| record.keeper).or_else(|| maker(link, caller));
    keeper.is_some_and(|keeper| life(&keeper) == Life::Ended)
}

/// Who has made a bridge that has no record yet. When that process started is not known: where another has
/// its number by now, the bridge waits for that one's end.
fn maker(link: &Link, caller: &Caller) -> Option<ProcessMark> {
    let pid = link.name.strip_prefix(UNFINISHED)?.parse().ok()?;
    let is_ours = link.is_bridge && link.group == caller.uid && link.alias.is_empty();
    let start = steading_sys::mark::of(pid).map_or(0, |mark| mark.start);
    is_ours.then_some(ProcessMark { pid, start, ..caller.mark })
}

/// Removes links. All are tried, whatever becomes of one.
fn remove(netlink: &mut Netlink, is_meant: impl Fn(&Link) -> bool) -> anyhow::Result<Vec<String>> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for link in netlink.links()?.into_iter().filter(is_meant) {
        match netlink.remove(link.index) {
            Ok(()) => removed.push(link.name),
            Err(error) => failed.push(format!("{}: {error}", link.name)),
        }
    }
    ensure!(failed.is_empty(), "cannot remove {}", failed.join(", "));
    Ok(removed)
}
