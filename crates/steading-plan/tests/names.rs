//! What names of a group lead to, and who is certified.

use std::net::IpAddr;

use proptest::prelude::*;
use steading_plan::{
    Boot, DnsName, HostFacts, Lookup, Plan, PlanError, Record, RecordData, RecordError, StrangeNameError,
    Testnet, VmSpec, Zone, ZoneData,
};

fn testnet() -> Testnet {
    let boot = Boot::Kernel { kernel: "/vmlinuz".into(), initrd: None, cmdline: String::new() };
    Testnet::new().vm(VmSpec::new("n1", boot.clone())).vm(VmSpec::new("n2", boot).second_card())
}

fn derive(testnet: &Testnet) -> Result<Plan, PlanError> {
    let host = HostFacts::default();
    Plan::derive(&"g".parse().expect("a name"), testnet, &host)
}

fn plan() -> Plan {
    derive(&testnet()).expect("a plan")
}

fn zone(records: &[Record]) -> Result<Zone, RecordError> {
    plan().zone(records, ["8.8.8.8".parse().expect("an address")])
}

fn addresses(zone: &Zone, name: &str) -> Vec<String> {
    zone.addresses(name).iter().map(ToString::to_string).collect()
}

#[test]
fn every_vm_has_its_name_by_one_label_and_whole_in_any_case() {
    let (plan, zone) = (plan(), zone(&[]).expect("a zone"));
    for name in ["n2", "N2.g.test", "n2.g.test."] {
        let mut wanted: Vec<String> = vec![plan.vms[1].address.to_string()];
        wanted.extend(plan.vms[1].second_address.map(|address| address.to_string()));
        assert_eq!(addresses(&zone, name), wanted, "{name}");
    }
    assert_eq!(
        addresses(&zone, "gateway"),
        [plan.addresses.gateway.to_string(), plan.addresses.ipv4_gateway.to_string()]
    );
    assert_eq!(zone.find("n3"), Lookup::Nothing);
    assert_eq!(zone.find("www.debian.org"), Lookup::Nothing);
    assert_eq!(zone.find(""), Lookup::Nothing);
    assert_eq!(zone.find("g.test"), Lookup::Data(&[]), "the domain is there");
}

#[test]
fn the_time_is_asked_of_the_group_unless_a_record_says_otherwise() {
    let gateway = plan().addresses.gateway.to_string();
    let zone = |records: &[Record]| zone(records).expect("a zone");
    assert_eq!(addresses(&zone(&[]), "2.debian.pool.ntp.org")[0], gateway);
    let own = zone(&[Record::address("*.pool.ntp.org", [10, 0, 0, 1])]);
    assert_eq!(addresses(&own, "2.debian.pool.ntp.org"), ["10.0.0.1"]);
    assert_eq!(addresses(&own, "pool.ntp.org")[0], gateway);
    assert_eq!(addresses(&own, "files"), [plan().addresses.files.to_string()]);
}

#[test]
fn addresses_of_vms_lead_back_to_them() {
    let plan = plan();
    let digits: Vec<String> = plan.vms[0]
        .address
        .octets()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| format!("{digit:x}"))
        .collect();
    let name = digits.into_iter().rev().collect::<Vec<_>>().join(".") + ".ip6.arpa";
    let zone = zone(&[]).expect("a zone");
    let Lookup::Data([ZoneData::Ptr(vm)]) = zone.find(&name) else { panic!("{name} leads nowhere") };
    assert_eq!(vm.as_str(), "n1.g.test");
}

#[test]
fn a_wildcard_is_for_what_is_not_there_below_it() {
    // RFC 4592, section 2.2.1.
    let records = [
        Record::address("*.example", [10, 0, 0, 1]),
        Record::txt("host1.example", "x"),
        Record::address("sub.*.example.", [10, 0, 0, 9]),
        Record::address("deep.down.example", [10, 0, 0, 2]),
    ];
    assert!(matches!(zone(&records), Err(RecordError::Name(_))), "an inner * is no pattern");
    let zone = zone(&[&records[..2], &records[3..]].concat()).expect("a zone");
    assert_eq!(addresses(&zone, "host3.example."), ["10.0.0.1"]);
    assert_eq!(addresses(&zone, "foo.bar.example."), ["10.0.0.1"]);
    // It is there, and has no address.
    assert_eq!(addresses(&zone, "host1.example."), [""; 0]);
    assert!(matches!(zone.find("host1.example."), Lookup::Data([_])));
    // It is there, since something is below it.
    assert_eq!(zone.find("down.example"), Lookup::Data(&[]));
    // What is next to something that is there below one that is there is not of the pattern above.
    assert_eq!(zone.find("other.down.example"), Lookup::Nothing);
    assert_eq!(zone.find("x.host1.example"), Lookup::Nothing);
    // A name of one label is of the domain, so `example` itself is another.
    assert_eq!(zone.find("example"), Lookup::Nothing);
}

#[test]
fn an_alias_leads_on_and_a_ring_of_them_nowhere() {
    let zone = zone(&[
        Record::cname("www", "web.example.com"),
        Record::cname("web.example.com", "n1"),
        Record::cname("a", "b"),
        Record::cname("b", "a"),
    ])
    .expect("a zone");
    assert_eq!(addresses(&zone, "www"), [plan().vms[0].address.to_string()]);
    assert_eq!(zone.aliases("www").len(), 2);
    assert_eq!(addresses(&zone, "a"), [""; 0]);
}

#[test]
fn records_that_contradict_are_refused_with_the_reason() {
    let refused = |records: &[Record]| zone(records).expect_err("refused").to_string();
    for (records, said) in [
        (vec![Record::vm("x", "n9")], "leads to VM \"n9\", which is not there\nhint: there are: n1, n2"),
        (vec![Record::vm("n1", "n2")], "n1.g.test is the name of VM n1"),
        (vec![Record::vm("acme.@", "n2")], "acme.g.test is the name of the group itself"),
        (vec![Record::txt("x", "1"), Record::cname("x", "n1")], "cannot be an alias"),
        (vec![Record::cname("x", "n1"), Record::txt("x", "1")], "cannot be an alias"),
        (vec![Record::cname("x", "*.y")], "that is a pattern"),
        (vec![Record::vm("x", "n1"), Record::vm("x.@", "n1")], "is there already"),
        (vec![Record::txt("x", "y".repeat(4097))], "more than 4096 bytes"),
        (vec![Record::txt("a b", "1")], "is no DNS name"),
    ] {
        let error = refused(&records);
        assert!(error.contains(said), "{error}");
    }
    let declared = derive(&testnet().record(Record::vm("x", "n9"))).expect_err("refused").to_string();
    assert!(declared.contains("n9"), "{declared}");
    let inside = plan().vms[0].address;
    let claimed = derive(&testnet().resolver(inside)).expect_err("refused").to_string();
    assert!(claimed.contains("cannot be claimed"), "{claimed}");
}

#[test]
fn what_is_removed_is_that_name_or_that_record_and_nothing_else() {
    let records = [Record::txt("x", "1"), Record::txt("x.@", "2"), Record::vm("y", "n1")];
    let zone = zone(&records).expect("a zone");
    assert_eq!(zone.without("X.g.test", None).as_deref(), Ok(&records[2..]));
    let one = zone.without("x", Some(&RecordData::Txt("2".to_owned())));
    assert_eq!(one.as_deref(), Ok(&[records[0].clone(), records[2].clone()][..]));
    let error = zone.without("n1", None).expect_err("none was added").to_string();
    assert!(error.contains("there are: x TXT"), "{error}");
}

#[test]
fn names_and_addresses_of_the_group_are_certified_and_no_others() {
    let plan = plan();
    let zone =
        zone(&[Record::vm("registry.example.com", "n1"), Record::address("*.shop.example", [10, 9, 9, 9])])
            .expect("a zone");
    let good =
        |text: &str| zone.certifies(text).map(|names| names.join(" ")).map_err(|error| error.to_string());
    for (text, names) in [
        ("n1", "n1 n1.g.test"),
        ("N1.g.test.", "n1.g.test"),
        ("new.g.test", "new.g.test"),
        ("*.apps.@", "*.apps.g.test"),
        ("@", "g.test"),
        ("registry.example.com", "registry.example.com"),
        ("*.shop.example", "*.shop.example"),
        ("a.shop.example", "a.shop.example"),
        ("10.9.9.9", "10.9.9.9"),
        ("8.8.8.8", "8.8.8.8"),
    ] {
        assert_eq!(good(text).as_deref(), Ok(names), "{text}");
    }
    for address in [
        IpAddr::from(plan.vms[0].address),
        plan.addresses.management.into(),
        plan.addresses.ipv4_gateway.into(),
    ] {
        assert_eq!(good(&address.to_string()), Ok(address.to_string()));
    }
    for text in ["www.debian.org", "example.com", "*.example.com", "*.b.shop.example", "evilg.test", "test"] {
        let is_strange = matches!(zone.certifies(&format!("{text}.")), Err(StrangeNameError::Name { .. }));
        assert!(is_strange, "{text}");
    }
    for text in ["9.9.9.9", "2001:db8::1"] {
        assert!(matches!(zone.certifies(text), Err(StrangeNameError::Address(_))), "{text}");
    }
    assert!(matches!(zone.certifies("a b"), Err(StrangeNameError::Neither(..))));
}

#[test]
fn a_vm_cannot_take_a_name_that_the_group_has_itself() {
    let boot = Boot::Kernel { kernel: "/vmlinuz".into(), initrd: None, cmdline: String::new() };
    let group = plan().zone(&[], []).expect("a zone");
    let own: Vec<String> = group
        .iter()
        .filter_map(|(name, _)| name.as_str().strip_suffix(".g.test").map(str::to_owned))
        .collect();
    let own = own.iter().filter(|name| plan().vm(name).is_none());
    // So that a service that is added later is thought of.
    let mut count = 0;
    for name in own {
        let refused =
            derive(&Testnet::new().vm(VmSpec::new(name, boot.clone()))).expect_err(name).to_string();
        assert!(refused.starts_with(&format!("no VM can be named `{name}`: ")), "{refused}");
        count += 1;
    }
    assert_eq!(count, 3, "{group:?}");
    assert_eq!(group.acme_host(), "acme.g.test");
}

fn names() -> impl Strategy<Value = String> {
    "(\\*\\.)?[a-c]{1,2}(\\.[a-c]{1,2}){0,3}(\\.@)?"
}

proptest! {
    /// Against a table without an order: what RFC 4592 says, word by word.
    #[test]
    fn a_question_finds_what_the_standard_says(added in prop::collection::vec(names(), 0..8), asked in names()) {
        let records: Vec<Record> = added
            .iter()
            .enumerate()
            .map(|(number, name)| Record::txt(name.clone(), number.to_string()))
            .collect();
        let zone = zone(&records).expect("texts are always good");
        let whole = |text: &str| DnsName::parse(text, "g.test").expect("a name").as_str().to_owned();
        let asked = whole(&asked);
        let known: Vec<String> = zone.iter().map(|(name, _)| name.as_str().to_owned()).collect();
        let exists = |name: &str| {
            known.iter().any(|known| known == name || known.ends_with(&format!(".{name}")))
        };
        let texts = |name: &str| -> Vec<String> {
            added
                .iter()
                .enumerate()
                .filter(|(_, known)| whole(known) == name)
                .map(|(number, _)| number.to_string())
                .collect()
        };
        let wanted = if exists(&asked) {
            Some(texts(&asked))
        } else {
            let mut encloser = asked.as_str();
            loop {
                match encloser.split_once('.') {
                    None => break None,
                    Some((_, parent)) => encloser = parent,
                }
                if exists(encloser) {
                    break Some(texts(&format!("*.{encloser}"))).filter(|texts| !texts.is_empty());
                }
            }
        };
        let found = match zone.find(&asked) {
            Lookup::Nothing => None,
            Lookup::Data(data) => Some(
                data.iter()
                    .map(|data| match data {
                        ZoneData::Txt(text) => text.clone(),
                        other => format!("{other:?}"),
                    })
                    .collect::<Vec<_>>(),
            ),
        };
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn what_was_added_and_removed_leaves_no_trace(added in prop::collection::vec(names(), 1..8), gone in 0_usize..8) {
        let records: Vec<Record> = added
            .iter()
            .enumerate()
            .map(|(number, name)| Record::txt(name.clone(), number.to_string()))
            .collect();
        let before = zone(&records).expect("texts are always good");
        let gone = &records[gone % records.len()];
        let left = before.without(&gone.name, Some(&gone.data)).expect("it is there");
        prop_assert_eq!(left.len(), records.len() - 1);
        let after = zone(&left).expect("fewer texts are good, too");
        let anew = zone(&records.iter().filter(|record| *record != gone).cloned().collect::<Vec<_>>()).expect("so are these");
        prop_assert_eq!(after.iter().collect::<Vec<_>>(), anew.iter().collect::<Vec<_>>());
    }
}
