//! A real etcd cluster of three VMs, and what it must survive.

mod cluster;
mod network_faults;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use cluster::Cluster;
use steading::{ForkFallback, Group, Suite, Testnet, Vm, VmState, at_once, reference};

/// Longer than the election time-out that the cluster is configured with.
const LONGER_THAN_AN_ELECTION: Duration = Duration::from_secs(120);

/// Where setup keeps the revision of the store.
const REVISION: &str = "revision";

fn main() -> ExitCode {
    Suite::new("etcd")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new().vms(cluster::MEMBERS.map(|name| guest.vm(name))))
        })
        .setup(|testnet| {
            let cluster = Cluster::of(testnet);
            cluster.form()?;
            Cluster::write(&cluster.members()[0], "formed", "yes")?;
            testnet.put(REVISION, &Cluster::revision(&cluster.members()[0])?)
        })
        .parallel("forked", |section| {
            section
                .fork_each(ForkFallback::Boot)
                .test("all_members_are_healthy", anew(|testnet| Cluster::of(testnet).wait_until_healthy()))
                .test("a_write_on_one_is_read_on_all", anew(a_write_on_one_is_read_on_all))
                .test(
                    "the_cluster_writes_while_its_leader_is_killed",
                    anew(the_cluster_writes_while_its_leader_is_killed),
                )
                .test(
                    "a_member_comes_back_after_a_soft_reboot",
                    anew(a_member_comes_back_after_a_soft_reboot),
                )
                .test(
                    "the_cluster_comes_back_after_a_reboot_of_all",
                    anew(the_cluster_comes_back_after_a_reboot_of_all),
                )
                .test("a_leader_paused_too_long_is_replaced", anew(a_leader_paused_too_long_is_replaced))
        })
        .sequential("network_faults", |section| {
            section
                .needs_faults()
                .fork_each(ForkFallback::Boot)
                .test(
                    "the_minority_cannot_write_and_the_majority_can",
                    anew(network_faults::the_minority_cannot_write_and_the_majority_can),
                )
                .test("a_one_way_cut_is_seen_as_such", anew(network_faults::a_one_way_cut_is_seen_as_such))
                .test(
                    "delay_and_loss_are_what_was_asked",
                    anew(network_faults::delay_and_loss_are_what_was_asked),
                )
        })
        .main()
}

/// Each test has a fork of the cluster of its own: whatever others do, it begins with the store at the
/// revision at which setup left it.
fn anew(
    test: impl Fn(&Group) -> anyhow::Result<()> + 'static,
) -> impl Fn(&Group) -> anyhow::Result<()> + 'static {
    move |testnet| {
        let (kept, found): (u64, u64) =
            (testnet.get(REVISION)?, Cluster::revision(&Cluster::of(testnet).members()[0])?);
        ensure!(found == kept, "the store is at revision {found}, and setup left it at {kept}");
        test(testnet)
    }
}

fn a_write_on_one_is_read_on_all(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    for (index, writer) in cluster.members().iter().enumerate() {
        let (key, value) = (format!("written-on-{}", writer.name()), format!("value-{index}"));
        Cluster::write(writer, &key, &value)?;
        for reader in cluster.members() {
            Cluster::expect(reader, &key, &value)?;
        }
    }
    Ok(())
}

fn the_cluster_writes_while_its_leader_is_killed(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    let leader = cluster.leader()?;
    let console = format!("{}/vms/{}/console.log", testnet.log_dir(), leader.name());
    // In a fork it may have said nothing yet.
    let before = std::fs::read_to_string(&console).unwrap_or_default();
    leader.kill()?;
    let others = cluster.others(&leader);
    Cluster::write_soon(&others[0], "without-leader", "yes")?;
    Cluster::expect(&others[1], "without-leader", "yes")?;
    leader.start()?;
    cluster.wait_until_healthy()?;
    Cluster::expect(&leader, "without-leader", "yes")?;
    let after = std::fs::read_to_string(&console)?;
    ensure!(after.starts_with(&before), "the console's log was replaced, not appended to");
    ensure!(after.len() > before.len(), "nothing of the second boot is in the console's log");
    Ok(())
}

fn a_member_comes_back_after_a_soft_reboot(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    let member = &cluster.members()[1];
    let boot = boot_id(member)?;
    member.reboot()?;
    cluster.wait_until_healthy()?;
    ensure!(boot_id(member)? != boot, "{} has not booted anew", member.name());
    Ok(())
}

fn the_cluster_comes_back_after_a_reboot_of_all(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    Cluster::write(&cluster.members()[0], "before-the-reboot-of-all", "kept")?;
    at_once(cluster.members(), Vm::reboot)?;
    cluster.wait_until_healthy()?;
    for reader in cluster.members() {
        Cluster::expect(reader, "before-the-reboot-of-all", "kept")?;
    }
    Ok(())
}

fn a_leader_paused_too_long_is_replaced(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    let leader = cluster.leader()?;
    leader.pause()?;
    ensure!(leader.status()?.state == VmState::Paused, "{} is not paused", leader.name());
    let others = cluster.others(&leader);
    let successor = others[0].within(LONGER_THAN_AN_ELECTION);
    Cluster::wait_for_another_leader(&successor, &leader)?;
    Cluster::write_soon(&others[0], "while-paused", "yes")?;
    leader.resume()?;
    cluster.wait_until_healthy()?;
    Cluster::expect(&leader, "while-paused", "yes")
}

fn boot_id(vm: &steading::Vm) -> anyhow::Result<String> {
    vm.succeed("cat /proc/sys/kernel/random/boot_id")
}
