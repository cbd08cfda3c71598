//! The configuration by which guests are told their addresses, where these are static.

use std::net::IpAddr;

use serde_json::json;

use crate::vm_plan::VmPlan;
use crate::{AddressPlan, MacAddr};

/// A card, as a guest is to configure it.
struct Card {
    mac: MacAddr,
    address: IpAddr,
    prefix_len: u8,
    gateway: IpAddr,
}

fn cards(vm: &VmPlan, addresses: &AddressPlan) -> Vec<Card> {
    let first = Card {
        mac: vm.mac,
        address: vm.address.into(),
        prefix_len: addresses.prefix.prefix_len(),
        gateway: addresses.gateway.into(),
    };
    let second = vm.second_mac.zip(vm.second_address).map(|(mac, address)| Card {
        mac,
        address: address.into(),
        prefix_len: addresses.ipv4.prefix_len(),
        gateway: addresses.ipv4_gateway.into(),
    });
    std::iter::once(first).chain(second).collect()
}

/// Has the guest of this VM be told its addresses, in every way that it may understand.
pub(crate) fn tell(vm: &mut VmPlan, addresses: &AddressPlan) {
    let cards = cards(vm, addresses);
    let config = &mut vm.spec.config;
    for (number, card) in (1..).zip(&cards) {
        // Before all files that an image has, so that these do not match first.
        let name = format!("network.network.05-steading-{number}");
        config.credentials.entry(name).or_insert_with(|| networkd(card, addresses));
    }
    if let Some(cloud_init) = &mut config.cloud_init {
        cloud_init.network_config.get_or_insert_with(|| network_config(&cards, addresses));
    }
}

/// A file of systemd-networkd (systemd.network(5)).
fn networkd(card: &Card, addresses: &AddressPlan) -> String {
    let Card { mac, address, prefix_len, gateway } = card;
    let (server, domain) = (addresses.gateway, &addresses.domain);
    format!(
        "[Match]\nMACAddress={mac}\n\n\
         [Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\nIPv6PrivacyExtensions=no\n\
         DNS={server}\nDomains={domain}\nNTP={server}\n\n\
         [Address]\nAddress={address}/{prefix_len}\nDuplicateAddressDetection=none\n\n\
         [Route]\nGateway={gateway}\n"
    )
}

/// cloud-init's network configuration, version 2. JSON is YAML.
fn network_config(cards: &[Card], addresses: &AddressPlan) -> String {
    let ethernets = (1..).zip(cards).map(|(number, card): (u32, _)| {
        let Card { mac, address, prefix_len, gateway } = card;
        let everywhere = if address.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
        let card = json!({
            "match": { "macaddress": mac.to_string() },
            "dhcp4": false,
            "dhcp6": false,
            "accept-ra": false,
            "addresses": [format!("{address}/{prefix_len}")],
            "routes": [{ "to": everywhere, "via": gateway }],
            "nameservers": { "addresses": [addresses.gateway], "search": [&addresses.domain] },
        });
        (format!("card{number}"), card)
    });
    json!({ "version": 2, "ethernets": ethernets.collect::<serde_json::Map<_, _>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use crate::{Addressing, Boot, CloudInit, HostFacts, ImageSource, Plan, Testnet, VmSpec};

    fn plan(testnet: &Testnet) -> Plan {
        let facts = HostFacts::default();
        Plan::derive(&"g".parse().unwrap(), testnet, &facts).unwrap()
    }

    fn testnet() -> Testnet {
        let vm = |name: &str| VmSpec::new(name, Boot::Bios).disk(ImageSource::new("/disk"));
        let mut cloud = vm("cloud");
        cloud.config.cloud_init = Some(CloudInit::default());
        let mut own = vm("own");
        own.config.credentials.insert("network.network.05-steading-1".to_owned(), "mine".to_owned());
        Testnet::new().vm(vm("two").second_card()).vm(cloud).vm(own)
    }

    #[test]
    fn guests_are_told_the_addresses_that_they_would_have_anyway() {
        let (routed, fixed) = (plan(&testnet()), plan(&testnet().addressing(Addressing::Static)));
        for (one, other) in routed.vms.iter().zip(&fixed.vms) {
            assert_eq!((one.address, one.second_address), (other.address, other.second_address));
        }
        let two = fixed.vm("two").unwrap();
        let told = &two.spec.config.credentials;
        assert_eq!(told.len(), 2);
        let first = &told["network.network.05-steading-1"];
        assert!(first.contains(&format!("\nAddress={}/64\n", two.address)), "{first}");
        let second = &told["network.network.05-steading-2"];
        assert!(second.contains(&format!("\nAddress={}/24\n", two.second_address.unwrap())), "{second}");
        let delivery = crate::Delivery::of(two);
        assert!(delivery.smbios.contains(&("network.network.05-steading-2", second.as_str())));
        assert!(routed.vm("two").unwrap().spec.config.credentials.is_empty());
    }

    #[test]
    fn cloud_init_is_told_and_what_a_test_gives_itself_prevails() {
        let plan = plan(&testnet().addressing(Addressing::Static));
        let cloud = plan.vm("cloud").unwrap();
        let given = cloud.spec.config.cloud_init.as_ref().unwrap().network_config.as_ref().unwrap();
        let given: serde_json::Value = serde_json::from_str(given).unwrap();
        assert_eq!(given["ethernets"]["card1"]["addresses"][0], format!("{}/64", cloud.address));
        assert_eq!(plan.vm("own").unwrap().spec.config.credentials["network.network.05-steading-1"], "mine");
    }

    #[test]
    fn nobody_sends_advertisements_or_answers_dhcp() {
        let plan = plan(&testnet().addressing(Addressing::Static));
        assert_eq!(plan.dnsmasq, None);
        let zone = plan.zone(&[], []).unwrap();
        assert!(zone.addresses("two").contains(&plan.vms[0].address.into()), "{zone:?}");
    }
}
