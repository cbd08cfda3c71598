//! VMs inside others, as they are planned.

use steading_plan::{Boot, Fault, HostFacts, ImageSource, Launch, Plan, PlanError, Testnet, VmSpec};

fn vm(name: &str, memory_mib: u32) -> VmSpec {
    let boot = Boot::Kernel {
        kernel: "/images/vmlinuz".into(),
        initrd: Some("/images/initrd".into()),
        cmdline: "console=ttyS0 root=PARTLABEL=root".to_owned(),
    };
    VmSpec::new(name, boot).disk(ImageSource::new("/images/disk.zst")).memory_mib(memory_mib)
}

fn plan(vms: impl IntoIterator<Item = VmSpec>) -> Result<Plan, PlanError> {
    let host = HostFacts::default();
    Plan::derive(&"nested".parse().expect("a name"), &Testnet::new().vms(vms), &host)
}

fn refusal(vms: impl IntoIterator<Item = VmSpec>) -> String {
    plan(vms).expect_err("it is refused").to_string()
}

#[test]
fn a_host_is_told_of_the_vm_inside_it() {
    let mut inner = vm("inner", 256).inside("outer");
    inner.config.credentials.insert("motd".to_owned(), "one, two\nthree".to_owned());
    let plan = plan([inner, vm("outer", 1024)]).expect("it fits");
    let (inner, outer) = (plan.vm("inner").expect("there"), plan.vm("outer").expect("there"));
    let told = &outer.spec.config.credentials["steading.nested.inner"];
    let files = plan.addresses.file_url("");
    for line in [
        format!("mac={}", inner.mac),
        format!("uuid={}", inner.uuid),
        "memory_mib=256".to_owned(),
        "cmdline=console=ttyS0 root=PARTLABEL=root".to_owned(),
        format!("disk={files}inner.disk"),
        // "one, two\nthree" and "inner" in base64.
        "credential.motd=b25lLCB0d28KdGhyZWU=".to_owned(),
        "credential.system.hostname=aW5uZXI=".to_owned(),
    ] {
        assert!(told.lines().any(|told| told == line), "{line:?} is not in {told}");
    }
    let served: Vec<_> = plan.files.iter().map(|file| file.served_name().expect("a name")).collect();
    assert_eq!(served, ["inner.kernel", "inner.initrd", "inner.disk"]);
    // It is the host that QEMU runs with what it is told.
    assert!(inner.launch == Launch::Nested && inner.taps().next().is_none());
    let delivery = steading_plan::Delivery::of(outer);
    assert!(delivery.smbios.iter().any(|(name, _)| *name == "steading.nested.inner"));
}

#[test]
fn it_has_its_memory_from_its_host() {
    let together = plan([vm("outer", 1024), vm("inner", 256).inside("outer")]).expect("it fits");
    assert_eq!(together.resources, plan([vm("outer", 1024)]).expect("it fits").resources);
    let inner = || [vm("a", 512).inside("outer"), vm("b", 512).inside("outer")];
    let said = refusal(inner().into_iter().chain([vm("outer", 1024)]));
    assert!(said.contains("VM outer has 1024 MiB of memory, and the VMs inside it 1024"), "{said}");
}

#[test]
fn a_host_must_be_there_and_inside_nothing() {
    assert!(refusal([vm("inner", 64).inside("nobody")]).contains("has no VM of that name"));
    assert!(refusal([vm("a", 64).inside("a")]).contains("inside another itself"));
    let deep = [vm("a", 512), vm("b", 256).inside("a"), vm("c", 64).inside("b")];
    assert!(refusal(deep).contains("VM c is to run inside b, which runs inside another itself"));
}

#[test]
fn what_only_the_group_can_give_is_refused() {
    let host = || vm("outer", 1024);
    assert!(refusal([host(), vm("inner", 64).inside("outer").second_card()]).contains("has a second card"));
    let uefi = VmSpec::new("inner", Boot::Uefi).disk(ImageSource::new("/disk")).memory_mib(64);
    assert!(refusal([host(), uefi.inside("outer")]).contains("does not boot a kernel with an initrd"));
    let plan = plan([host(), vm("inner", 64).inside("outer")]).expect("it fits");
    let error = Fault::cut("inner").check(&plan).expect_err("no TAP").to_string();
    assert!(error.contains("VM inner runs inside outer"), "{error}");
    assert!(Fault::cut("outer").check(&plan).is_ok());
    assert!(plan.no_freeze().is_some());
}
