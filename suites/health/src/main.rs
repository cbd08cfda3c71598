//! The testnet itself: do VMs come up, reach each other, and come back?

use std::process::ExitCode;

use anyhow::ensure;
use steading::{Group, Suite, Testnet, Vm, VmState, at_once, reference};

/// Two "subnets" of two, as products deploy them; to the network they are one.
const SUBNETS: [[&str; 2]; 2] = [["a1", "a2"], ["b1", "b2"]];

/// Declared, and launched by a test.
const SINGLE: &str = "single";

fn main() -> ExitCode {
    Suite::new("health")
        .testnet(|| {
            let guest = reference::guest()?;
            let nodes = SUBNETS.as_flattened().iter().map(|name| guest.vm(*name));
            Ok(Testnet::new().vms(nodes).vm(guest.vm(SINGLE).stopped()))
        })
        .setup(|testnet| nodes(testnet).iter().try_for_each(Vm::wait_for_ssh))
        .test("basic_health", basic_health)
        .test("kill_start_short", |testnet| kill_and_start(&testnet.vm("a1")))
        .test("kill_start_long", |testnet| (0..5).try_for_each(|_| kill_and_start(&testnet.vm("b2"))))
        .test("global_reboot", global_reboot)
        .test("launch_single_guest", launch_single_guest)
        .main()
}

fn nodes(testnet: &Group) -> Vec<Vm> {
    SUBNETS.as_flattened().iter().map(|name| testnet.vm(name)).collect()
}

/// Every node is reached from the management address, which is the driver's own, and by every other.
fn basic_health(testnet: &Group) -> anyhow::Result<()> {
    let nodes = nodes(testnet);
    let management = testnet.plan().addresses.management;
    for node in &nodes {
        node.wait_for_open_port(22)?;
        node.wait_for_open_port(19531)?;
    }
    for node in &nodes {
        let seen = node.succeed("echo $SSH_CONNECTION")?;
        ensure!(seen.starts_with(&format!("{management} ")), "{} sees the driver as {seen}", node.name());
        for other in nodes.iter().filter(|other| other.name() != node.name()) {
            node.succeed(&format!("ping -6 -c 1 -W 10 {}", other.address()))?;
        }
    }
    Ok(())
}

/// What was written to the disk before the power was cut is still there.
fn kill_and_start(vm: &Vm) -> anyhow::Result<()> {
    let boot = vm.status()?.boot;
    let mark = format!("boot-{boot}");
    vm.succeed(&format!("echo {mark} >/root/mark && sync"))?;
    vm.kill()?;
    let status = vm.status()?;
    ensure!(
        status.state == VmState::Off,
        "{} is {} after its power was cut",
        vm.name(),
        status.state.as_str()
    );
    ensure!(vm.execute("true").is_err(), "{} runs commands without power", vm.name());
    vm.start()?;
    let kept = vm.succeed("cat /root/mark")?;
    ensure!(kept.trim() == mark, "{} has lost its disk: {kept:?}", vm.name());
    ensure!(vm.status()?.boot == boot + 1, "{} was not booted once", vm.name());
    Ok(())
}

fn global_reboot(testnet: &Group) -> anyhow::Result<()> {
    let nodes = nodes(testnet);
    at_once(&nodes, Vm::reboot)?;
    basic_health(testnet)
}

fn launch_single_guest(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm(SINGLE);
    ensure!(vm.status()?.state == VmState::Off, "it runs although it was declared stopped");
    vm.start()?;
    vm.wait_for_ssh()?;
    let name = vm.succeed("hostname")?;
    ensure!(name.trim() == SINGLE, "its host name is {name:?}");
    let agent = vm.execute_by_agent("cat /etc/hostname; hostname")?;
    ensure!(agent.status == 0 && agent.stdout.contains(SINGLE), "its agent says {agent:?}");
    vm.execute("systemctl poweroff --no-block")?;
    vm.wait_for_shutdown()?;
    ensure!(vm.status()?.state == VmState::Off, "it runs after a shutdown");
    Ok(())
}
