//! The network of a group, as a program inside sees it.

use serde_json::Value;
use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Outcome, stopped_vm};

pub(crate) const CASES: &[Case] = &[(
    "the_bridge_has_its_addresses_and_the_route_leaves_from_management",
    the_bridge_has_its_addresses_and_the_route_leaves_from_management,
)];

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
