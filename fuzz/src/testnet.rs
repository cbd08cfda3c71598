//! Testnets in TOML, as people write them, and the plans that follow.

use steading_plan::{
    Boot, Engine, GroupName, Guest, GuestFiles, HostFacts, ImageSource, Plan, Testnet, TestnetFile,
};

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "testnet",
    check,
    seeds: &[
        b"[[vm]]\nname = \"n1\"\nguest = \"reference\"\n",
        b"prefix = \"2001:db8:1:2::/64\"\n[[vm]]\nname = \"n1\"\nboot = \"uefi\"\nvcpus = 2\nmemory_mib = 1024\n\
          disk = { path = \"disk.qcow2\" }\ndisk_mib = 4096\nsecond_card = true\ndisplay = true\nautostart = false\n\
          [[vm]]\nname = \"n2\"\nboot.kernel = { kernel = \"vmlinuz\", initrd = \"initrd\", cmdline = \"console=ttyS0\" }\n",
        b"[[vm]]\nname = \"a\"\nboot = \"bios\"\ndisk = { path = \"a,b.img\", sha256 = \
          \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }\n\
          [vm.config]\nconfig_dir = \"dir\"\nignition = \"{}\"\n[vm.config.credentials]\n\"a.b\" = \"x\"\n\
          [vm.config.cloud_init]\nuser_data = \"#cloud-config\"\n",
        b"resolver = [\"8.8.8.8\"]\n[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"d\" }\n[[record]]\nname = \"*.a.@\"\nvm = \"n1\"\n\
          [[record]]\nname = \"b.example\"\ncname = \"n1\"\n",
        b"[[vm]]\nname = \"n1\"\nvcpu = 2\n",
        b"vm = [{ name = \"x\", boot = \"bios\", vcpus = 4294967295, memory_mib = 4294967295 }]",
    ],
    words: &[
        "[[vm]]\n",
        "name = \"n1\"\n",
        "guest = \"reference\"\n",
        "guest = \"universal\"\n",
        "metrics = [9100]\n",
        "boot = \"bios\"\n",
        "boot = \"uefi\"\n",
        "boot.kernel = { kernel = \"k\", cmdline = \"c\" }\n",
        "disk = { path = \"d\" }\n",
        "disk_mib = ",
        "memory_mib = ",
        "vcpus = ",
        "second_card = true\n",
        "display = true\n",
        "autostart = false\n",
        "reboots_on_panic = true\n",
        "prefix = \"fd00::/64\"\n",
        "[[record]]\n",
        "vm = \"n1\"\n",
        "address = \"::1\"\n",
        "cname = \"a.@\"\n",
        "resolver = [\"::2\"]\n",
        "[vm.config]\n",
        "[vm.config.credentials]\n",
        "\\u0000",
        "\\n",
        ",",
        "4294967295",
    ],
};

/// Reads the bytes as a testnet and derives its plan.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = match TestnetFile::parse(text) {
        Ok(file) => file,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.trim().is_empty(), "an error says nothing");
            return;
        }
    };
    let guest = GuestFiles {
        boot: Boot::Bios,
        disk: Some(ImageSource::new("guest/disk")),
        memory_mib: 64,
        reboots_on_panic: false,
    };
    let guests = [Guest::Reference, Guest::Universal, Guest::Host].map(|kind| (kind, guest.clone())).into();
    let Ok(testnet) = file.resolve(&guests) else { return };
    let written = serde_json::to_string(&testnet).expect("a testnet can be written");
    assert_eq!(serde_json::from_str::<Testnet>(&written).expect("and read"), testnet);
    for engine in Engine::ALL {
        plan(&testnet, engine);
    }
}

fn plan(testnet: &Testnet, engine: Engine) {
    let group: GroupName = "fuzz".parse().expect("a name");
    let host = HostFacts { engine, ..HostFacts::default() };
    let plan = Plan::derive(&group, testnet, &host);
    assert_eq!(plan, Plan::derive(&group, testnet, &host), "a plan is not the same twice");
    let Ok(plan) = plan else { return };
    let written = serde_json::to_string(&plan).expect("a plan can be written");
    assert_eq!(serde_json::from_str::<Plan>(&written).expect("and read"), plan);
    for vm in &plan.vms {
        let has_nul = vm.launch.to_string().contains('\0');
        assert!(!has_nul, "an argument of QEMU's would be cut short: {:?}", vm.launch);
    }
}
