//! A whole plan, as it is printed: what changes here changes for every user.

use steading_plan::{
    Boot, CloudInit, GuestConfig, HostFacts, HostResources, ImageSource, Plan, Testnet, VmSpec,
};

#[test]
fn a_plan_of_two_vms() {
    let mut config = GuestConfig {
        config_dir: Some("/tests/config".into()),
        cloud_init: Some(CloudInit { user_data: "#cloud-config\n".to_owned(), ..CloudInit::default() }),
        ignition: Some("{}".to_owned()),
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
    let host = HostFacts::new(HostResources { cpus: 2, memory_mib: 8192 });
    let plan = Plan::derive(&"snapshot".parse().expect("a good name"), &testnet, &host).expect("it fits");
    insta::assert_json_snapshot!(plan);
}
