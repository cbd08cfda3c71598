//! Ethernet frames that a guest may send and no host should believe.

use std::net::Ipv6Addr;

/// ICMPv6 (RFC 4443).
const ICMPV6: u8 = 58;

/// What all nodes listen to (RFC 4291, section 2.7.1), and its hardware address (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A router advertisement (RFC 4861, section 4.2) of a default router with a prefix for addresses, an MTU of 1280
/// bytes, and a hop limit of 3.
pub fn router_advertisement(from: [u8; 6]) -> Vec<u8> {
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
    let message = [
        // Type, code, checksum, hop limit, flags, lifetime of the router, two timers.
        &[134, 0, 0, 0, 3, 0][..],
        &1800_u16.to_be_bytes(),
        &[0; 8],
        // The sender's hardware address.
        &[1, 1],
        &from,
        // The MTU.
        &[5, 1, 0, 0],
        &1280_u32.to_be_bytes(),
        // A prefix on this link, to make addresses of.
        &[3, 4, 64, 0xc0],
        &86_400_u32.to_be_bytes(),
        &14_400_u32.to_be_bytes(),
        &[0; 4],
        &prefix.octets(),
    ];
    frame(from, ALL_NODES_MAC, ALL_NODES, message.concat())
}

/// A redirect (RFC 4861, section 4.5) of what goes to a documentation address to the sender.
pub fn redirect(from: [u8; 6], to_mac: [u8; 6], to: Ipv6Addr) -> Vec<u8> {
    let destination = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    let message = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &link_local(from).octets(), &destination.octets()];
    frame(from, to_mac, to, message.concat())
}

fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let interface = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, interface[0], interface[1], interface[2], interface[3])
}

/// Ethernet, IPv6 with a hop limit of 255, and the message with its checksum (RFC 8200, section 8.1).
fn frame(from: [u8; 6], to_mac: [u8; 6], to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let source = link_local(from);
    let length = u16::try_from(message.len()).expect("a short message");
    let pseudo =
        [&source.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6], &message];
    let sum: u32 = pseudo
        .concat()
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("it is folded");
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let header =
        [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[ICMPV6, 255], &source.octets(), &to.octets()];
    [&to_mac[..], &from, &[0x86, 0xdd], &header.concat(), &message].concat()
}
