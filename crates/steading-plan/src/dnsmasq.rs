//! The configuration of the group's router daemon: router advertisements, DHCPv4 and names.

use std::fmt::Write as _;

use crate::{AddressPlan, Addressing, VmPlan};

/// Seconds between unsolicited router advertisements.
const RA_INTERVAL: u32 = 10;

/// Seconds for which a router is a default router (RFC 4861, section 4.2).
const RA_LIFETIME: u32 = 1800;

/// Where guests that were told nothing else ask for the time: Debian's and others' are names below it. The
/// group's own time server answers.
const NTP_POOL: &str = "pool.ntp.org";

/// The text of a dnsmasq configuration file (dnsmasq(8)).
///
/// DHCPv6 is off (`ra-only`): addresses come by SLAAC, so they are known beforehand. DHCPv4 answers
/// second cards only, since guests are known to ask on their first card as well.
pub(crate) fn configuration(addresses: &AddressPlan, addressing: Addressing, vms: &[VmPlan]) -> String {
    let AddressPlan { bridge, gateway, files, ipv4_gateway, domain, .. } = addresses;
    let prefix = addresses.prefix.network();
    let (first, last) = addresses.ipv4_range;
    let mut text = format!(
        "keep-in-foreground\n\
         log-facility=-\n\
         no-resolv\n\
         no-hosts\n\
         no-poll\n\
         interface={bridge}\n\
         except-interface=lo\n\
         bind-interfaces\n\
         domain={domain}\n\
         local=/{domain}/\n"
    );
    if addressing.is_router() {
        text += &format!(
            "leasefile-ro\n\
             enable-ra\n\
             ra-param={bridge},{RA_INTERVAL},{RA_LIFETIME}\n\
             dhcp-range={prefix},ra-only,64,{RA_LIFETIME}\n\
             dhcp-option=option6:dns-server,[{gateway}]\n\
             dhcp-authoritative\n\
             dhcp-range={first},{last},255.255.255.0,1h\n\
             dhcp-option=option:router,{ipv4_gateway}\n\
             dhcp-option=option:ntp-server,{ipv4_gateway}\n\
             dhcp-ignore=tag:!known\n"
        );
    }
    text += &format!(
        "address=/{NTP_POOL}/{gateway}\n\
         address=/{NTP_POOL}/{ipv4_gateway}\n\
         host-record=gateway.{domain},{gateway}\n\
         host-record=files.{domain},files,{files}\n"
    );
    for vm in vms {
        let name = &vm.name;
        writeln!(text, "host-record={name}.{domain},{name},{}", vm.address).expect("a String takes all");
        if let Some(mac) = vm.second_mac.filter(|_| addressing.is_router()) {
            // So that there is nothing to remember: a router daemon that is started anew, or in a fork,
            // gives and renews the same.
            let address = vm.second_address.map(|address| format!(",{address}")).unwrap_or_default();
            writeln!(text, "dhcp-host={mac}{address}").expect("a String takes all");
        }
    }
    text
}
