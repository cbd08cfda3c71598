//! What must hold of every plan, whatever is declared.

use std::collections::BTreeSet;

use proptest::prelude::*;
use steading_plan::{
    Boot, GroupName, HostFacts, HostResources, IFNAME_MAX, IfName, LABEL_MAX, MacAddr, NameError, Plan,
    PlanError, ResourceError, Sha256, Testnet, VmName, VmSpec,
};

const HOST: HostResources = HostResources { cpus: 4, memory_mib: 16 * 1024 };

fn host() -> HostFacts {
    HostFacts::default()
}

fn kernel() -> Boot {
    Boot::Kernel { kernel: "/images/vmlinuz".into(), initrd: None, cmdline: "console=ttyS0".to_owned() }
}

fn testnet(names: &[&str]) -> Testnet {
    Testnet::new().vms(names.iter().map(|name| VmSpec::new(*name, kernel()).second_card()))
}

fn plan(group: &str, testnet: &Testnet) -> Result<Plan, PlanError> {
    Plan::derive(&group.parse().expect("the group's name is good"), testnet, &host())
}

proptest! {
    #[test]
    fn a_label_of_letters_digits_and_inner_hyphens_is_a_name(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
        let name: VmName = text.parse().expect("it is a label");
        prop_assert_eq!(name.as_str(), text.as_str());
    }

    #[test]
    fn a_longer_label_is_none(length in LABEL_MAX + 1..400) {
        let parsed = "a".repeat(length).parse::<VmName>();
        let is_too_long = matches!(parsed, Err(NameError::TooLong { length: told, .. }) if told == length);
        prop_assert!(is_too_long);
    }

    #[test]
    fn any_other_character_is_told_with_its_place(before in "[a-z]{1,9}", bad in "[^a-z0-9-]", after in "[a-z]{1,9}") {
        let error = format!("{before}{bad}{after}").parse::<GroupName>().expect_err("it is no label");
        let is_told = matches!(error, NameError::Character { position, .. } if position == before.len() + 1);
        prop_assert!(is_told);
    }

    #[test]
    fn a_name_has_one_to_sixty_three_characters(length in 1_usize..300) {
        prop_assert_eq!("a".repeat(length).parse::<GroupName>().is_ok(), length <= LABEL_MAX);
        prop_assert_eq!("a".repeat(length).parse::<VmName>().is_ok(), length <= LABEL_MAX);
    }

    #[test]
    fn a_name_survives_json_and_no_name_comes_out_of_it(text in ".{0,70}") {
        let json = serde_json::to_string(&text).expect("it can be written");
        let (parsed, read) = (text.parse::<VmName>().ok(), serde_json::from_str::<VmName>(&json).ok());
        prop_assert_eq!(parsed, read);
    }

    #[test]
    fn interface_names_fit_the_kernel(group in "[a-z0-9]{1,63}", vm in "[a-z0-9]{1,63}") {
        let (group, vm): (GroupName, VmName) = (group.parse().expect("good"), vm.parse().expect("good"));
        for name in [IfName::bridge(&group), IfName::tap(&group, &vm), IfName::second_tap(&group, &vm)] {
            prop_assert_eq!(name.as_str().len(), IFNAME_MAX - 1);
        }
    }

    #[test]
    fn the_driver_stands_outside_the_vms_prefix(group in "[a-z0-9]{1,63}") {
        let plan = plan(&group, &testnet(&["a", "b"])).expect("it fits");
        let addresses = &plan.addresses;
        let driver = BTreeSet::from(addresses.driver_addresses());
        prop_assert_eq!(driver.len(), 3);
        prop_assert!(driver.iter().all(|address| !addresses.prefix.contains(address)));
        prop_assert!(addresses.prefix.contains(&addresses.gateway));
        for vm in &plan.vms {
            prop_assert!(addresses.prefix.contains(&vm.address));
            let interface: [u8; 8] = vm.address.octets()[8..].try_into().expect("eight bytes");
            prop_assert_eq!(interface, vm.mac.eui64());
        }
    }

    #[test]
    fn a_plan_survives_being_written_as_json(group in "[a-z0-9]{1,63}") {
        let plan = plan(&group, &testnet(&["a", "b"])).expect("it fits");
        let json = serde_json::to_string(&plan).expect("it can be written");
        prop_assert_eq!(serde_json::from_str::<Plan>(&json).expect("it can be read"), plan);
    }

    #[test]
    fn addresses_and_digests_survive_being_printed(bytes in any::<[u8; 6]>(), digest in any::<[u8; 32]>()) {
        let (mac, digest) = (MacAddr::new(bytes), Sha256::from_bytes(digest));
        prop_assert_eq!(mac.to_string().parse::<MacAddr>().expect("it is one"), mac);
        prop_assert_eq!(digest.to_string().parse::<Sha256>().expect("it is one"), digest);
        let json = serde_json::to_string(&(mac, digest)).expect("they can be written");
        prop_assert_eq!(serde_json::from_str::<(MacAddr, Sha256)>(&json).expect("they can be read"), (mac, digest));
    }
}

#[test]
fn a_thousand_groups_of_three_share_nothing() {
    let (mut prefixes, mut bridges, mut taps, mut macs) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for number in 0..1000 {
        let plan = plan(&format!("group-{number}"), &testnet(&["a", "b", "c"])).expect("it fits");
        prefixes.insert(plan.addresses.prefix);
        bridges.insert(plan.addresses.bridge);
        for vm in plan.vms {
            taps.extend([Some(vm.tap), vm.second_tap].into_iter().flatten());
            macs.extend([Some(vm.mac), vm.second_mac].into_iter().flatten());
        }
    }
    assert_eq!((prefixes.len(), bridges.len()), (1000, 1000));
    assert_eq!((taps.len(), macs.len()), (6000, 6000));
}

#[test]
fn empty_names_spaces_slashes_and_outer_hyphens_are_refused() {
    for text in ["", " ", "a b", "a/b", "../a", "-a", "a-", "-", "A", "a.b", "a_b", "ä", "a\n"] {
        assert!(text.parse::<GroupName>().is_err(), "{text:?} was taken for a group's name");
        assert!(text.parse::<VmName>().is_err(), "{text:?} was taken for a VM's name");
    }
}

#[test]
fn two_vms_of_one_name_are_refused_with_their_places() {
    let refused = plan("group", &testnet(&["a", "b", "a"]));
    assert_eq!(refused, Err(PlanError::Duplicate("a".parse().expect("good"), 1, 3)));
}

#[test]
fn more_memory_than_the_host_has_is_refused_with_the_sum() {
    let large = Testnet::new()
        .vm(VmSpec::new("a", kernel()).memory_mib(9000))
        .vm(VmSpec::new("b", kernel()).memory_mib(9000));
    // It is planned for any machine, and refused on one that it does not fit.
    let large = plan("group", &large).expect("a plan");
    let error = large.check(HOST).expect_err("it cannot fit").to_string();
    assert!(error.contains("18192 MiB") && error.contains("16384 MiB"), "{error}");
    assert!(error.contains("a 9000 + b 9000 + 96 for each of 2"), "{error}");
}

#[test]
fn more_vcpus_than_the_host_has_were_refused() {
    let with = |vcpus| plan("group", &Testnet::new().vm(VmSpec::new("a", kernel()).vcpus(vcpus)));
    let wide = with(5).expect("a plan");
    wide.check(HOST).expect("it fits");
    let warning = wide.strain(HOST).expect("a warning");
    assert!(warning.contains("VM a has 5 vCPUs, and this machine has 4 CPUs"), "{warning}");
    assert_eq!(with(4).expect("a plan").strain(HOST), None);
    let refused = with(256);
    assert!(matches!(refused, Err(PlanError::Resources(ResourceError::Vcpus { vcpus: 256, .. }))));
}

#[test]
fn firmware_without_a_disk_and_bad_prefixes_are_refused() {
    let bare = Testnet::new().vm(VmSpec::new("a", Boot::Uefi));
    assert!(matches!(plan("group", &bare), Err(PlanError::NoDisk(_))));
    for prefix in ["fd00::/48", "fe80::/64", "ff02::/64", "2001:db8:0:ffff::/64"] {
        let testnet = Testnet::new().prefix(prefix.parse().expect("it is a prefix"));
        assert!(matches!(plan("group", &testnet), Err(PlanError::Prefix(_))), "{prefix} was taken");
    }
    let testnet = Testnet::new().prefix("2001:db8:1:2::/64".parse().expect("it is a prefix"));
    let plan = plan("group", &testnet).expect("it is a good prefix");
    assert_eq!(plan.addresses.management.to_string(), "2001:db8:1:3::1");
}

#[test]
fn an_interface_name_from_elsewhere_must_fit_the_kernel() {
    for bad in ["", "sixteen-bytes-xx", "a/b", "a b", "..", "a:b"] {
        assert!(serde_json::from_value::<IfName>(bad.into()).is_err(), "{bad:?} was taken");
    }
    let name: IfName = serde_json::from_value("tap-0123456789".into()).expect("it fits");
    assert_eq!(name.as_str(), "tap-0123456789");
}
