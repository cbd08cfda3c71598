//! The network of a group, as a program inside sees it.

use serde_json::Value;
use steading_plan::{Testnet, VmSpec};
use steading_testing::frames;

use crate::Case;
use crate::faults::Cards;
use crate::support::{Group, Outcome, SOON, stopped_vm};

pub(crate) const CASES: &[Case] = &[
    (
        "the_bridge_has_its_addresses_and_the_route_leaves_from_management",
        the_bridge_has_its_addresses_and_the_route_leaves_from_management,
    ),
    (
        "a_guest_that_advertises_a_router_changes_nothing_of_the_drivers_network",
        a_guest_that_advertises_a_router_changes_nothing,
    ),
];

/// All of the network namespace that a router could change.
fn network_of(group: &Group) -> Vec<String> {
    let bridge = &group.plan.addresses.bridge;
    let script = format!(
        "ip -o link | awk '{{ print $2, $4, $5 }}'; ip -o addr show scope global; ip -6 route; ip route; ip -6 rule; \
         cat /proc/sys/net/ipv6/conf/{bridge}/hop_limit /proc/sys/net/ipv6/conf/{bridge}/mtu"
    );
    let ran = group.run(&["sh", "-ec", &script]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // Those of link-local addresses come a moment after a link is up.
    ran.lines.into_iter().filter(|line| !line.starts_with("fe80::")).collect()
}

fn a_guest_that_advertises_a_router_changes_nothing() -> Outcome {
    let group = Group::up("adverts", |dirs| {
        let spec = |name: &str| VmSpec { name: name.to_owned(), ..stopped_vm(dirs) };
        Testnet::new().vm(spec("a")).vm(spec("b"))
    });
    let cards = Cards::of(&group);
    let mac = group.plan.vms[0].mac.bytes();
    let before = network_of(&group);
    let advertisement = frames::router_advertisement(mac);
    for _ in 0..3 {
        cards.send_frame("a", &advertisement);
    }
    // The network is a bare one: other guests see it.
    cards.wait_for_frame("b", &advertisement, SOON);
    let redirect =
        frames::redirect(mac, group.plan.addresses.bridge_mac.bytes(), group.plan.addresses.gateway);
    cards.send_frame("a", &redirect);
    assert_eq!(network_of(&group), before);
    drop(cards);
    group.tear_down();
    Outcome::Passed
}

fn the_bridge_has_its_addresses_and_the_route_leaves_from_management() -> Outcome {
    let group = Group::up("network", |dirs| Testnet::new().vm(stopped_vm(dirs).second_card()));
    let ran = group.run(&["ip", "-j", "addr"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let links: Vec<Value> = serde_json::from_str(&ran.lines.concat()).expect("JSON");
    let link = |name: &str| {
        let found = links.iter().find(|link| link["ifname"] == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {links:?}"))
    };
    let addresses = |name: &str| -> Vec<String> {
        let infos = link(name)["addr_info"].as_array().expect("addresses");
        infos
            .iter()
            .map(|info| format!("{}/{}", info["local"].as_str().unwrap_or("?"), info["prefixlen"]))
            .collect()
    };
    let plan = &group.plan.addresses;
    let bridge = addresses(plan.bridge.as_str());
    for wanted in [format!("{}/64", plan.gateway), format!("{}/24", plan.ipv4_gateway)] {
        assert!(bridge.contains(&wanted), "{wanted} is not among {bridge:?}");
    }
    assert_eq!(link(plan.bridge.as_str())["address"], plan.bridge_mac.to_string());
    let own = addresses("lo");
    for wanted in plan.driver_addresses() {
        assert!(own.contains(&format!("{wanted}/128")), "{wanted} is not among {own:?}");
    }
    for (_, tap) in group.plan.vms[0].taps() {
        assert_eq!(link(tap.as_str())["master"], plan.bridge.as_str(), "{tap} is no port of the bridge");
    }
    let vm = group.plan.vms[0].address;
    let ran = group.run(&["ip", "-6", "route", "get", &vm.to_string()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let route = ran.lines.concat();
    for wanted in [format!("dev {}", plan.bridge), format!("src {} ", plan.management)] {
        assert!(route.contains(&wanted), "{wanted:?} is not in {route}");
    }
    group.tear_down();
    Outcome::Passed
}
