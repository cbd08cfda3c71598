//! A table of faults and their rules, and what must hold of all.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Boot, HostFacts, Testnet, VmSpec};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Four VMs, the last of which has a second card.
fn plan() -> Plan {
    let host = HostFacts::default();
    let spec =
        |name| VmSpec::new(name, Boot::Kernel { kernel: "/k".into(), initrd: None, cmdline: String::new() });
    let testnet = Testnet::new().vm(spec("a")).vm(spec("b")).vm(spec("c")).vm(spec("d").second_card());
    Plan::derive(&"g".parse().unwrap(), &testnet, &host).unwrap()
}

fn itself(tap: &IfName) -> Vec<IfName> {
    vec![tap.clone()]
}

/// The rules, with ports called as their VMs.
fn rules(fault: &Fault) -> Vec<String> {
    let plan = plan();
    fault.check(&plan).unwrap();
    let mut text = Ruleset::derive(&plan, itself, [fault]).to_string();
    for vm in &plan.vms {
        for ((_, tap), card) in vm.taps().zip(["", "2"]) {
            text = text.replace(tap.as_str(), &format!("{}{card}", vm.name));
        }
    }
    text.lines().map(str::to_owned).collect()
}

#[test]
fn each_fault_has_its_rules() {
    let table: &[(Fault, &[&str])] = &[
        (
            Fault::cut("a"),
            &[
                "forward iifname { a } drop",
                "input iifname { a } drop",
                "forward oifname { a } drop",
                "output oifname { a } drop",
            ],
        ),
        (Fault::cut("a").one_way(), &["forward iifname { a } drop", "input iifname { a } drop"]),
        (Fault::cut("a").incoming(), &["forward oifname { a } drop", "output oifname { a } drop"]),
        (
            Fault::partition(&["a"], &["d"]),
            &["forward iifname { a } oifname { d2, d } drop", "forward iifname { d2, d } oifname { a } drop"],
        ),
        (Fault::partition(&["a"], &["b"]).one_way(), &["forward iifname { a } oifname { b } drop"]),
        (
            Fault::loss("b", 12.5).to("c"),
            &["forward iifname { b } oifname { c } numgen random mod 1000000 < 125000 drop"],
        ),
        (Fault::loss("b", 100.0).to("c"), &["forward iifname { b } oifname { c } drop"]),
        (
            Fault::loss("b", 0.000_000_1).to("c"),
            &["forward iifname { b } oifname { c } numgen random mod 1000000 < 1 drop"],
        ),
    ];
    for (fault, expected) in table {
        assert_eq!(rules(fault), *expected, "{fault}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let plan = plan();
    for (fault, expected) in [
        (Fault::new(Vec::new(), Effect::Cut), "at least one VM"),
        (Fault::cut("z"), "there is no VM named \"z\"\nhint: there are: a, b, c, d"),
        (Fault::partition(&["a", "b"], &["b"]), "VM b is on both sides"),
        (Fault::loss("a", 0.0), "0 is no share"),
        (Fault::loss("a", -1.0), "-1 is no share"),
        (Fault::loss("a", 100.1), "100.1 is no share"),
        (Fault::loss("a", f64::NAN), "NaN is no share"),
        (Fault::rate("a", 7_999), "7999 bits a second are too few"),
        (Fault::delay("a", Duration::ZERO), "0 µs is no delay"),
        (Fault::delay("a", Duration::from_secs(61)), "61000000 µs is no delay"),
        (Fault::delay("a", Duration::from_millis(2)).jitter(Duration::from_millis(3)), "jitter of 3000 µs"),
        (Fault::reorder("a", 5.0, Duration::ZERO), "0 µs is no delay"),
        (Fault::duplicate("a", 200.0), "200 is no share"),
    ] {
        let error = fault.check(&plan).unwrap_err().to_string();
        assert!(error.contains(expected), "{fault}: {error}");
    }
}

/// The wires with relays: the VM of each, and the sources of each effect there, as VMs.
fn wires(fault: &Fault) -> Vec<String> {
    use super::super::wiring::{Impairment, derive};
    let plan = plan();
    fault.check(&plan).unwrap();
    let sources = |impairments: &[Impairment]| {
        let of = |impairment: &Impairment| {
            let mut names: Vec<String> = Vec::new();
            for vm in &plan.vms {
                names.extend(impairment.sources.contains(&vm.mac).then(|| vm.name.to_string()));
                let second = vm.second_mac.filter(|mac| impairment.sources.contains(mac));
                names.extend(second.map(|_| format!("{}2", vm.name)));
            }
            format!("[{}]", names.join(" "))
        };
        impairments.iter().map(of).collect::<String>()
    };
    let wiring = derive(&plan, [fault]);
    let mut lines = Vec::new();
    for vm in &plan.vms {
        for ((_, tap), card) in vm.taps().zip(["", "2"]) {
            lines.extend(wiring.get(tap).map(|wire| {
                format!(
                    "{}{card}: sent {}, received {}",
                    vm.name,
                    sources(&wire.sent),
                    sources(&wire.received)
                )
            }));
        }
    }
    lines
}

#[test]
fn frames_are_held_on_the_wires_of_those_they_are_about() {
    let delay = |vm: &str| Fault::delay(vm, Duration::from_millis(5));
    let table: &[(Fault, &[&str])] = &[
        (delay("a"), &["a: sent [], received []"]),
        (delay("a").incoming(), &["a: sent , received []"]),
        (delay("a").to("b"), &["b: sent , received [a]"]),
        (
            delay("a").with("d"),
            &["a: sent , received [d d2]", "d: sent , received [a]", "d2: sent , received [a]"],
        ),
        (Fault::rate("d", 8_000).one_way(), &["d: sent [], received ", "d2: sent [], received "]),
        (Fault::cut("a"), &[]),
    ];
    for (fault, expected) in table {
        assert_eq!(wires(fault), *expected, "{fault}");
    }
}

/// What becomes of a frame, by rules without chance: from a port to a port, none being the host.
fn passes(rules: &Ruleset, from: Option<&IfName>, to: Option<&IfName>) -> bool {
    let hook = match (from, to) {
        (Some(_), Some(_)) => Hook::Forward,
        (Some(_), None) => Hook::Input,
        _ => Hook::Output,
    };
    let is_in = |ports: &BTreeSet<IfName>, port: Option<&IfName>| {
        ports.is_empty() || port.is_some_and(|port| ports.contains(port))
    };
    !rules
        .rules
        .iter()
        .any(|rule| rule.hook == hook && is_in(&rule.filter.from, from) && is_in(&rule.filter.to, to))
}

fn any_cut() -> impl Strategy<Value = Fault> {
    let names = proptest::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len());
    (names, 0..=NAMES.len(), 0..3).prop_map(|(names, split, direction)| {
        let (vms, peers) = names.split_at(split.clamp(1, names.len()));
        let fault = Fault::partition(vms, peers);
        match direction {
            0 => fault,
            1 => fault.one_way(),
            _ => fault.incoming(),
        }
    })
}

proptest! {
    /// What the sets say is what the rules do, for each ordered pair of ends, the host among them.
    #[test]
    fn a_frame_passes_exactly_where_no_fault_is_about_it(faults in proptest::collection::vec(any_cut(), 0..4)) {
        let plan = plan();
        let rules = Ruleset::derive(&plan, itself, &faults);
        let ends: Vec<Option<&str>> = NAMES.iter().map(|&name| Some(name)).chain([None]).collect();
        for from in &ends {
            for to in ends.iter().filter(|to| *to != from) {
                let is = |set: &[String], end: Option<&str>| match end {
                    Some(name) => set.iter().any(|vm| vm == name),
                    None => false,
                };
                let is_peer = |fault: &Fault, end: Option<&str>| fault.peers.is_empty() || is(&fault.peers, end);
                let is_cut = faults.iter().any(|fault| {
                    let sent = is(&fault.vms, *from) && is_peer(fault, *to);
                    let received = is(&fault.vms, *to) && is_peer(fault, *from);
                    match fault.direction {
                        Direction::Both => sent || received,
                        Direction::Sent => sent,
                        Direction::Received => received,
                    }
                });
                for from_port in ports_of(&plan, *from) {
                    for to_port in ports_of(&plan, *to) {
                        prop_assert_eq!(passes(&rules, from_port.as_ref(), to_port.as_ref()), !is_cut);
                    }
                }
            }
        }
    }

    #[test]
    fn a_rate_reads_back(number in 1u64..1_000_000, unit in proptest::sample::select(vec!["bit", "kbit", "mbit", "gbit"])) {
        let factor = match unit { "bit" => 1, "kbit" => 1_000, "mbit" => 1_000_000, _ => 1_000_000_000 };
        prop_assert_eq!(crate::fault::parse_rate(&format!("{number}{unit}")), Ok(number * factor));
    }
}

fn ports_of(plan: &Plan, end: Option<&str>) -> Vec<Option<IfName>> {
    match end {
        None => vec![None],
        Some(name) => super::ports_of(plan, &itself, &[name.to_owned()]).into_iter().map(Some).collect(),
    }
}

#[test]
fn what_is_no_rate_is_refused() {
    for text in ["", "1", "mbit", "1.5mbit", "-1mbit", "1Mbit", "1 mbit", "99999999999gbit"] {
        assert!(crate::fault::parse_rate(text).is_err(), "{text:?}");
    }
}
