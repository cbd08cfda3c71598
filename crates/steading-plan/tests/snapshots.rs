//! A whole plan, as it is printed: what changes here changes for every user.

use steading_plan::{Boot, CloudInit, Engine, GuestConfig, HostFacts, ImageSource, Plan, Testnet, VmSpec};

#[test]
fn a_plan_of_two_vms() {
    let mut config = GuestConfig {
        config_dir: Some("/tests/config".into()),
        cloud_init: Some(CloudInit { user_data: "#cloud-config\n".to_owned(), ..CloudInit::default() }),
        ignition: Some(r#"{"ignition":{"version":"3.3.0"}}"#.to_owned()),
        ..GuestConfig::default()
    };
    config.credentials.insert("motd".to_owned(), "one, two".to_owned());
    let boot = Boot::Kernel {
        kernel: "/images/vmlinuz".into(),
        initrd: Some("/images/initrd".into()),
        cmdline: "console=ttyS0 root=PARTLABEL=root".to_owned(),
    };
    let testnet = Testnet::new()
        .vm(VmSpec::new("alpha", boot).disk(ImageSource::new("/images/disk.zst")).second_card())
        .vm(VmSpec::new("beta", Boot::Uefi)
            .disk(ImageSource::new("/images/disk.zst"))
            .display()
            .config(config));
    let host = HostFacts::default();
    let plan = Plan::derive(&"snapshot".parse().expect("a good name"), &testnet, &host).expect("it fits");
    insta::assert_json_snapshot!(plan);
    let by_libvirt = HostFacts { engine: Engine::Libvirt, ..host };
    let plan = Plan::derive(&plan.group, &testnet, &by_libvirt).expect("it fits");
    for vm in &plan.vms {
        let domain = vm.launch.to_string();
        insta::assert_snapshot!(format!("the_domain_of_{}", vm.name), domain);
    }
}

#[test]
fn what_xml_cannot_hold_is_refused_where_it_would_be_xml() {
    let mut config = GuestConfig::default();
    config.credentials.insert("motd".to_owned(), "bell\u{7}".to_owned());
    let boot = Boot::Kernel { kernel: "/vmlinuz".into(), initrd: None, cmdline: String::new() };
    let testnet = Testnet::new().vm(VmSpec::new("alpha", boot).config(config));
    let host = HostFacts::default();
    let group = "snapshot".parse().expect("a good name");
    assert!(Plan::derive(&group, &testnet, &host).is_ok());
    let by_libvirt = HostFacts { engine: Engine::Libvirt, ..host };
    let error = Plan::derive(&group, &testnet, &by_libvirt).expect_err("no XML").to_string();
    assert!(error.contains("a credential holds the character '\\u{7}'"), "{error}");
}
