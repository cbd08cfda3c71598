//! What a user would do otherwise: a shell script with `ip`, `dnsmasq` and the same QEMU command
//! lines, in the same kind of namespaces.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use steading_group::Origin;
use steading_plan::{Boot, Delivery, Handle, Launch, Plan, VmPlan};

use crate::group::{Up, bring_up, execute};
use crate::guests::{Prepared, waiter};

/// Runs the script until all journals answer, and returns how long that took.
///
/// It runs in a group without VMs whose own bridge it takes away first, so that it needs no more
/// rights than we do; neither that nor its end is counted.
pub(crate) fn run(prepared: &Prepared, dir: &Utf8Path) -> anyhow::Result<Duration> {
    let file = dir.join("boot.sh");
    fs::write(&file, text(prepared, dir)?)?;
    let empty = Plan { vms: Vec::new(), ..prepared.plan.clone() };
    let Up { owner, client, runtime } = bring_up(&empty, Origin::Prepared(Vec::new()), dir)?;
    let outcome = runtime.block_on(async {
        let clear = format!(
            "pkill dnsmasq; ip link del {}; ip addr flush dev lo scope global",
            prepared.plan.addresses.bridge
        );
        execute(&client, "clear", vec!["sh".to_owned(), "-c".to_owned(), clear]).await?;
        let began = Instant::now();
        execute(&client, "script", vec!["bash".to_owned(), file.into_string()]).await?;
        anyhow::Ok(began.elapsed())
    });
    owner.kill();
    drop(runtime);
    owner.wait()?;
    outcome
}

fn text(prepared: &Prepared, dir: &Utf8Path) -> anyhow::Result<String> {
    let plan = &prepared.plan;
    let bridge = &plan.addresses.bridge;
    let configuration = plan.dnsmasq.as_deref().unwrap_or_default();
    fs::write(dir.join("dnsmasq.conf"), configuration)?;
    let mut text = format!(
        "set -e\n\
         echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad\n\
         ip link set lo up\n\
         ip link add {bridge} type bridge mcast_snooping 0 forward_delay 0\n\
         ip link set {bridge} up\n\
         ip addr add {}/64 dev {bridge} nodad\n\
         ip addr add {}/24 dev {bridge}\n\
         dnsmasq --keep-in-foreground --conf-file={dir}/dnsmasq.conf --pid-file= &\n",
        plan.addresses.gateway, plan.addresses.ipv4_gateway
    );
    for vm in &plan.vms {
        start(&mut text, prepared, vm, dir)?;
    }
    writeln!(text, "{}", waiter(plan)?.join(" "))?;
    Ok(text)
}

fn start(text: &mut String, prepared: &Prepared, vm: &VmPlan, dir: &Utf8Path) -> anyhow::Result<()> {
    let (name, tap, bridge) = (&vm.name, &vm.tap, &prepared.plan.addresses.bridge);
    let disk = vm.spec.disk.as_ref().context("the reference guest has a disk")?;
    let image = prepared.cache.prepare(&disk.path, disk.sha256, &mut |_| {})?;
    let Boot::Kernel { kernel, initrd, .. } = &vm.spec.boot else {
        anyhow::bail!("the reference guest boots a kernel");
    };
    let key = dir.join("key");
    fs::write(&key, Delivery::of(vm).smbios_structure("none"))?;
    let overlay = dir.join(format!("{name}.qcow2"));
    writeln!(
        text,
        "ip tuntap add {tap} mode tap vnet_hdr\n\
         ip link set {tap} master {bridge} up\n\
         qemu-img create -q -f qcow2 {overlay} {}",
        image.size
    )?;
    let mut open = String::new();
    let files = [
        (Handle::Kernel, "<", kernel.as_str()),
        (Handle::Initrd, "<", initrd.as_ref().map_or("/dev/null", |path| path.as_str())),
        (Handle::Image, "<", image.path.as_str()),
        (Handle::Overlay, "<>", overlay.as_str()),
        (Handle::Credentials, "<", key.as_str()),
    ];
    for (handle, how, path) in files {
        write!(open, " {}{how}{path}", handle.number())?;
    }
    let Launch::Qemu(command) = &vm.launch else { anyhow::bail!("the engine is QEMU") };
    let command = without_memory_file(command.argv());
    let command: Vec<String> = command.iter().map(|arg| quoted(&without_handles(arg, vm, dir))).collect();
    writeln!(text, "{}{open} &", command.join(" "))?;
    Ok(())
}

/// A shell script gives its VMs memory as QEMU does by default.
fn without_memory_file(argv: &[String]) -> Vec<String> {
    let is_memory = |arg: &String| arg.starts_with("memory-backend-file,");
    let of_memory = argv.iter().position(is_memory).unwrap_or(argv.len());
    let rest = argv.iter().enumerate().filter(|(at, _)| *at != of_memory && at + 1 != of_memory);
    rest.map(|(_, arg)| arg.replace(",memory-backend=memory", "")).collect()
}

/// Sockets and TAPs that a shell cannot open become ones that QEMU opens itself.
fn without_handles(arg: &str, vm: &VmPlan, dir: &Utf8Path) -> String {
    let fd = |handle: Handle| format!("fd={}", handle.number());
    if arg.starts_with("tap,") {
        return arg.replace(&fd(Handle::Tap), &format!("ifname={},script=no,downscript=no", vm.tap));
    }
    if arg.starts_with("socket,id=console") {
        return format!("file,id=console,path={dir}/{}.console", vm.name);
    }
    if arg.starts_with("socket,") {
        let id = arg.trim_start_matches("socket,id=").split(',').next().unwrap_or_default();
        return format!("socket,id={id},path={dir}/{}.{id},server=on,wait=off", vm.name);
    }
    arg.to_owned()
}

fn quoted(arg: &str) -> String {
    format!("'{}'", arg.replace('\'', r"'\''"))
}
