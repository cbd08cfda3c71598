//! The configuration of the group's router daemon: router advertisements and DHCPv4. It tells guests where
//! names are answered for, and does not answer itself.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::{AddressPlan, Addressing, MacAddr};

/// Seconds between unsolicited router advertisements.
const RA_INTERVAL: u32 = 10;

/// Seconds for which a router is a default router (RFC 4861, section 4.2).
const RA_LIFETIME: u32 = 1800;

/// The text of a dnsmasq configuration file (dnsmasq(8)); none where guests learn nothing from a router.
///
/// DHCPv6 is off (`ra-only`): addresses come by SLAAC, so they are known beforehand. DHCPv4 answers
/// second cards only, since guests are known to ask on their first card as well.
pub(crate) fn configuration(
    addresses: &AddressPlan,
    addressing: Addressing,
    second_cards: impl IntoIterator<Item = (MacAddr, Option<Ipv4Addr>)>,
) -> Option<String> {
    if addressing == Addressing::Static {
        return None;
    }
    let AddressPlan { bridge, gateway, ipv4_gateway, domain, .. } = addresses;
    let prefix = addresses.prefix.network();
    let (first, last) = addresses.ipv4_range;
    let mut text = format!(
        "keep-in-foreground\n\
         log-facility=-\n\
         port=0\n\
         no-resolv\n\
         interface={bridge}\n\
         except-interface=lo\n\
         bind-interfaces\n\
         leasefile-ro\n\
         domain={domain}\n\
         enable-ra\n\
         ra-param={bridge},{RA_INTERVAL},{RA_LIFETIME}\n\
         dhcp-range={prefix},ra-only,64,{RA_LIFETIME}\n\
         dhcp-option=option6:dns-server,[{gateway}]\n\
         dhcp-authoritative\n\
         dhcp-range={first},{last},255.255.255.0,1h\n\
         dhcp-option=option:router,{ipv4_gateway}\n\
         dhcp-option=option:dns-server,{ipv4_gateway}\n\
         dhcp-option=option:ntp-server,{ipv4_gateway}\n\
         dhcp-ignore=tag:!known\n"
    );
    for (mac, address) in second_cards {
        // So that there is nothing to remember: a router daemon that is started anew, or in a fork,
        // gives and renews the same.
        let address = address.map(|address| format!(",{address}")).unwrap_or_default();
        writeln!(text, "dhcp-host={mac}{address}").expect("a String takes all");
    }
    Some(text)
}
