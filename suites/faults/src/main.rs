//! Faults of the network between real guests: what they meet, and that it is gone afterwards.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use steading::{Fault, ForkFallback, Group, Suite, Testnet, Vm, at_once, reference};

fn main() -> ExitCode {
    Suite::new("faults")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new().vm(guest.vm("a")).vm(guest.vm("b")).vm(guest.vm("c")))
        })
        .setup(|testnet| {
            at_once(&testnet.vms(), Vm::wait_for_ssh)?;
            // A guest that hears nothing of its neighbours for a while forgets where they are, and
            // what a test is about is what becomes of its own frames.
            for (vm, peer) in pairs(testnet) {
                let plan = testnet.plan().vm(peer.name()).context("it is in the plan")?;
                let (address, mac) = (plan.address, plan.mac);
                vm.succeed(&format!("ip neigh replace {address} lladdr {mac} dev enp1s0 nud permanent"))?;
            }
            everybody_reaches_everybody(testnet)
        })
        .test("a_vm_that_is_cut_reaches_nobody_and_is_back_when_the_guard_is_dropped", cut)
        .test("a_partition_of_one_way_lets_the_other_way_pass", one_way)
        .test("a_share_of_frames_is_lost_in_one_direction", loss)
        .test("frames_are_delayed_and_a_connection_outlives_the_relay", delay)
        .test("a_rate_is_what_a_connection_gets", rate)
        .test("a_fault_is_left_behind_by_a_function", |testnet| {
            // The guard is never dropped: the owner undoes it with this process.
            std::mem::forget(testnet.fault(Fault::cut("a"))?);
            Ok(())
        })
        .test("and_is_gone_in_the_next", |testnet| {
            ensure!(testnet.faults()?.is_empty(), "there are: {:?}", testnet.faults()?);
            everybody_reaches_everybody(testnet)
        })
        .sequential("forked", |section| {
            section
                .setup(|testnet| {
                    testnet.fault(Fault::partition(&["a"], &["c"]))?.keep()?;
                    testnet.fault(Fault::delay("b", Duration::from_millis(50)).with("c"))?.keep()
                })
                .fork_each(ForkFallback::Skip)
                .test("a_fork_begins_with_the_faults_of_its_group", fork_has_faults)
                .test("and_undoes_them_for_itself_alone", fork_has_faults)
        })
        .main()
}

fn pairs(testnet: &Group) -> Vec<(Vm, Vm)> {
    let vms = testnet.vms();
    let of = |vm: &Vm| {
        let peers = vms.iter().filter(|peer| peer.name() != vm.name());
        peers.map(|peer| (vm.clone(), peer.clone())).collect::<Vec<_>>()
    };
    vms.iter().flat_map(of).collect()
}

fn everybody_reaches_everybody(testnet: &Group) -> anyhow::Result<()> {
    for (vm, peer) in pairs(testnet) {
        vm.wait_until_succeeds(&ping(&peer))?;
    }
    Ok(())
}

fn ping(peer: &Vm) -> String {
    format!("ping -c 1 -W 5 {}", peer.address())
}

/// Whether a VM gets an answer of another; asked for by its agent, which needs no network.
fn reaches(vm: &Vm, peer: &Vm) -> anyhow::Result<bool> {
    Ok(vm.execute_by_agent(&format!("ping -c 2 -W 2 {}", peer.address()))?.status == 0)
}

/// How many pings a VM has received.
fn echoes(vm: &Vm) -> anyhow::Result<u64> {
    let said = vm.execute_by_agent("awk '/Icmp6InEchos/ { print $2 }' /proc/net/snmp6")?;
    said.stdout.trim().parse().with_context(|| format!("no count of pings: {said:?}"))
}

fn cut(testnet: &Group) -> anyhow::Result<()> {
    let (a, b, c) = (testnet.vm("a"), testnet.vm("b"), testnet.vm("c"));
    // This is a connection, which is to go on afterwards.
    a.succeed("echo connected >/run/connected")?;
    let fault = testnet.fault(Fault::cut("a"))?;
    ensure!(!reaches(&a, &b)?, "a reaches b");
    ensure!(!reaches(&c, &a)?, "c reaches a");
    ensure!(!a.has_open_port(22), "the driver reaches a");
    b.succeed(&ping(&c))?;
    drop(fault);
    a.succeed("cat /run/connected")?;
    everybody_reaches_everybody(testnet)
}

fn one_way(testnet: &Group) -> anyhow::Result<()> {
    let (a, b, c) = (testnet.vm("a"), testnet.vm("b"), testnet.vm("c"));
    let fault = testnet.fault(Fault::partition(&["a"], &["b"]).one_way())?;
    let before = (echoes(&a)?, echoes(&b)?);
    ensure!(!reaches(&a, &b)? && !reaches(&b, &a)?, "there are answers");
    let after = (echoes(&a)?, echoes(&b)?);
    ensure!(after.0 == before.0 + 2, "a, which may receive, had {before:?}, then {after:?}");
    ensure!(after.1 == before.1, "b, which must not, had {before:?}, then {after:?}");
    a.succeed(&ping(&c))?;
    b.succeed(&ping(&c))?;
    fault.undo()?;
    everybody_reaches_everybody(testnet)
}

fn loss(testnet: &Group) -> anyhow::Result<()> {
    const SENT: u64 = 400;
    let (a, b) = (testnet.vm("a"), testnet.vm("b"));
    let _fault = testnet.fault(Fault::loss("a", 50.0).to("b"))?;
    let before = (echoes(&a)?, echoes(&b)?);
    for (vm, peer) in [(&a, &b), (&b, &a)] {
        vm.execute_by_agent(&format!("ping -q -A -c {SENT} -W 1 {}", peer.address()))?;
    }
    let after = (echoes(&a)?, echoes(&b)?);
    let arrived = (after.0 - before.0, after.1 - before.1);
    testnet.metric("arrived_frames", f64::from(u32::try_from(arrived.1)?));
    // Half of 400, with ten standard deviations of 10 on either side.
    ensure!((100..=300).contains(&arrived.1), "{} of {SENT} arrived with a loss of 50 %", arrived.1);
    ensure!(arrived.0 == SENT, "{} of {SENT} arrived, of those that may", arrived.0);
    Ok(())
}

fn delay(testnet: &Group) -> anyhow::Result<()> {
    let (a, b) = (testnet.vm("a"), testnet.vm("b"));
    a.succeed("true")?;
    let without = round_trip(&a, &b)?;
    let fault = testnet.fault(Fault::delay("a", Duration::from_millis(100)))?;
    let with = round_trip(&a, &b)?;
    testnet.metric("round_trip_without_relay_ms", without);
    testnet.metric("round_trip_with_200_ms_of_delay_ms", with);
    ensure!(with >= 200.0, "a round trip with twice 100 ms of delay took {with} ms");
    // By the connection from before.
    a.succeed("true")?;
    fault.undo()?;
    a.succeed("true")?;
    // A relay that holds nothing for long: what it costs.
    let fault = testnet.fault(Fault::delay("a", Duration::from_micros(1)))?;
    testnet.metric("round_trip_with_idle_relay_ms", round_trip(&a, &b)?);
    fault.undo()
}

/// The shortest round trip of several, in milliseconds.
fn round_trip(from: &Vm, to: &Vm) -> anyhow::Result<f64> {
    let said = from.execute_by_agent(&format!("ping -q -c 20 -i 0.05 {}", to.address()))?.stdout;
    let times = said.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let shortest = times.and_then(|times| times.split('/').next());
    shortest.and_then(|time| time.parse().ok()).with_context(|| format!("no round trip: {said}"))
}

fn rate(testnet: &Group) -> anyhow::Result<()> {
    const BYTES: u32 = 2_000_000;
    let (a, b) = (testnet.vm("a"), testnet.vm("b"));
    // A megabit a second is far less than what a guest under emulation sends.
    let megabits = |bytes: u32| -> anyhow::Result<f64> {
        let began = Instant::now();
        a.succeed(&format!("head -c {bytes} /dev/zero"))?;
        Ok(f64::from(bytes) * 8.0 / 1e6 / began.elapsed().as_secs_f64())
    };
    testnet.metric("from_a_without_rate_mbit_per_s", megabits(10 * BYTES)?);
    let idle = testnet.fault(Fault::delay("a", Duration::from_micros(1)))?;
    testnet.metric("from_a_by_idle_relay_mbit_per_s", megabits(10 * BYTES)?);
    idle.undo()?;
    let fault = testnet.fault(Fault::rate("a", 2_000_000))?;
    let got = megabits(BYTES)?;
    testnet.metric("from_a_at_2_mbit_per_s", got);
    // Headers take some of it; and it cannot be more, but for what may wait.
    ensure!(got <= 2.1, "{got} Mbit/s passed at 2 Mbit/s");
    fault.undo()?;
    b.succeed(&ping(&a)).map(drop)
}

fn fork_has_faults(testnet: &Group) -> anyhow::Result<()> {
    let faults = testnet.faults()?;
    let [partition, _] = faults.as_slice() else { anyhow::bail!("there are: {faults:?}") };
    ensure!(partition.fault == Fault::partition(&["a"], &["c"]), "it is another: {partition:?}");
    let (a, b, c) = (testnet.vm("a"), testnet.vm("b"), testnet.vm("c"));
    ensure!(!reaches(&a, &c)?, "a reaches c");
    let delayed = round_trip(&b, &c)?;
    ensure!(delayed >= 100.0, "a round trip with twice 50 ms of delay took {delayed} ms");
    testnet.undo_faults()?;
    a.wait_until_succeeds(&ping(&c)).map(drop)
}
