//! What the cluster does when its network breaks, and whether that is what was asked for.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use steading::{Fault, Group, Vm, at_once};

use crate::cluster::{Cluster, MEMBERS};

/// How far what is measured may be from what was asked.
const TOLERANCE: f64 = 0.1;

/// A leader that nobody hears is cut off, and so is a member that nobody hears.
pub(crate) fn the_minority_cannot_write_and_the_majority_can(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    let minority = cluster.leader()?;
    let majority = cluster.others(&minority);
    let partition = testnet.fault(Fault::partition(&[minority.name()], &names(&majority)))?;
    ensure!(
        Cluster::write(&minority, "by", "minority").is_err(),
        "{}, which is alone, has written",
        minority.name()
    );
    Cluster::write_soon(&majority[0], "by", "majority")?;
    Cluster::expect(&majority[1], "by", "majority")?;
    partition.undo()?;
    cluster.wait_until_healthy()?;
    for member in cluster.members() {
        Cluster::expect(member, "by", "majority")?;
    }
    Cluster::write_soon(&minority, "after", "partition")?;
    Cluster::expect(&majority[0], "after", "partition")
}

/// What a member sends reaches nobody, and what others send still reaches it.
pub(crate) fn a_one_way_cut_is_seen_as_such(testnet: &Group) -> anyhow::Result<()> {
    let cluster = Cluster::of(testnet);
    let leader = cluster.leader()?;
    let others = cluster.others(&leader);
    let [mute, third] = others.as_slice() else { anyhow::bail!("there are not three members") };
    neighbours_are_known(testnet)?;
    let cut = testnet.fault(Fault::partition(&[mute.name()], &[leader.name(), third.name()]).one_way())?;
    let heard = |vm: &Vm, by: &Vm| -> anyhow::Result<u64> {
        let before = echoes(by)?;
        let answered = vm.execute(&format!("ping -c 3 -W 1 {}", by.address()))?.status == 0;
        ensure!(!answered, "{} has an answer of {}", vm.name(), by.name());
        Ok(echoes(by)? - before)
    };
    let (from_mute, to_mute) = (heard(mute, &leader)?, heard(&leader, mute)?);
    ensure!(from_mute == 0, "{} of {}'s frames have arrived", from_mute, mute.name());
    ensure!(to_mute == 3, "{to_mute} of 3 frames to {} have arrived", mute.name());
    ensure!(Cluster::write(mute, "by", "mute").is_err(), "{}, whom nobody hears, has written", mute.name());
    Cluster::write_soon(&leader, "by", "leader")?;
    Cluster::expect(third, "by", "leader")?;
    cut.undo()?;
    cluster.wait_until_healthy()?;
    Cluster::expect(mute, "by", "leader")
}

/// 200 ms of delay and 5 % of loss, each way of which is measured.
pub(crate) fn delay_and_loss_are_what_was_asked(testnet: &Group) -> anyhow::Result<()> {
    const DELAY: Duration = Duration::from_millis(200);
    const LOSS: f64 = 5.0;
    /// Four standard deviations of what is lost are then a tenth of it.
    const FRAMES: u32 = 30_000;
    let cluster = Cluster::of(testnet);
    let [one, two, _] = cluster.members() else { anyhow::bail!("there are not three members") };
    // What the members themselves say is neither to be counted nor to be waited for.
    at_once(cluster.members(), |member| member.succeed("systemctl stop etcd"))?;
    neighbours_are_known(testnet)?;

    let without = round_trip(one, two)?;
    let delay = testnet.fault(Fault::delay(one.name(), DELAY).to(two.name()))?;
    let with = round_trip(one, two)?;
    delay.undo()?;
    let delayed = with - without;
    testnet.metric("delay_ms", delayed);

    let lossy = testnet.fault(Fault::loss(one.name(), LOSS).to(two.name()))?;
    let before = echoes(two)?;
    one.execute(&format!("ping -q -f -l 32 -c {FRAMES} -W 1 {}", two.address()))?;
    let arrived = u32::try_from(echoes(two)? - before)?;
    lossy.undo()?;
    let lost_percent = 100.0 * f64::from(FRAMES - arrived) / f64::from(FRAMES);
    testnet.metric("lost_percent", lost_percent);

    let is_near = |measured: f64, asked: f64| (measured - asked).abs() <= asked * TOLERANCE;
    let asked = DELAY.as_secs_f64() * 1000.0;
    ensure!(is_near(delayed, asked), "{asked} ms of delay were asked for, and {delayed} ms measured");
    ensure!(is_near(lost_percent, LOSS), "{LOSS} % of loss were asked for, and {lost_percent} % measured");
    Ok(())
}

fn names(vms: &[Vm]) -> Vec<&str> {
    vms.iter().map(Vm::name).collect()
}

/// A guest that hears nothing of its neighbours for a while forgets where they are; what is counted are its
/// own frames.
fn neighbours_are_known(testnet: &Group) -> anyhow::Result<()> {
    for vm in testnet.vms() {
        for peer in MEMBERS.iter().filter(|peer| **peer != vm.name()) {
            let plan = testnet.plan().vm(peer).context("it is in the plan")?;
            let (address, mac) = (plan.address, plan.mac);
            vm.succeed(&format!("ip neigh replace {address} lladdr {mac} dev enp1s0 nud permanent"))?;
        }
    }
    Ok(())
}

/// How many pings a VM has received.
fn echoes(vm: &Vm) -> anyhow::Result<u64> {
    let said = vm.succeed("awk '/Icmp6InEchos/ { print $2 }' /proc/net/snmp6")?;
    said.trim().parse().with_context(|| format!("no count of pings: {said:?}"))
}

/// The shortest round trip of several, in milliseconds.
fn round_trip(from: &Vm, to: &Vm) -> anyhow::Result<f64> {
    let said = from.succeed(&format!("ping -q -c 20 -i 0.05 {}", to.address()))?;
    let times = said.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let shortest = times.and_then(|times| times.split('/').next());
    shortest.and_then(|time| time.parse().ok()).with_context(|| format!("no round trip: {said}"))
}
