//! Guests that boot on a host whose CPUs are busy with something else.
//!
//! A kernel measures its clocks and tries its timer at boot, by waiting. Under emulation a busy host takes the CPU away
//! meanwhile, and the kernel panics, or goes on with a clock that is wrong. The reference guest is told what it would
//! measure, or told not to; here it boots a hundred times beside four loops that want a CPU each.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use steading::{Group, Suite, Testnet, Vm, reference};

/// Guests that boot at once.
const GUESTS: usize = 4;

/// Loops beside them.
const LOOPS: usize = 4;

/// Boots of each guest in the long test: with the first, a hundred in all.
const ROUNDS: usize = 24;

/// How long a round may take; the host gives each guest a fraction of a CPU.
const ROUND: Duration = Duration::from_secs(300);

/// What the kernel says when it does not trust what it has measured.
const DOUBTS: &str = "IO-APIC \\+ timer|[Uu]nstable|soft lockup|self-detected stall";

fn main() -> ExitCode {
    let rounds = u32::try_from(ROUNDS).unwrap_or(u32::MAX);
    Suite::new("stress")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new().vms((1..=GUESTS).map(|number| guest.vm(format!("n{number}")).stopped())))
        })
        .limit(ROUND * rounds)
        .test("four_guests_boot_beside_busy_loops", |testnet| beside_busy_loops(|| boot(testnet)))
        .test("a_hundred_guests_boot_beside_busy_loops", |testnet| {
            beside_busy_loops(|| {
                (0..ROUNDS).try_for_each(|round| boot(testnet).with_context(|| format!("round {round}")))
            })
        })
        .main()
}

/// Runs this while some loops want a CPU each.
fn beside_busy_loops<T>(run: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..LOOPS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let done = run();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

/// Boots all guests at once, each from its disk as it is.
fn boot(testnet: &Group) -> anyhow::Result<()> {
    testnet.vms().iter().try_for_each(|vm| {
        vm.kill()?;
        vm.start()
    })?;
    testnet.at_once(|vm| {
        let vm = vm.within(ROUND);
        vm.wait_for_ssh()?;
        has_its_clocks(&vm)
    })?;
    Ok(())
}

/// Its kernel had no doubts, and its clock is neither twice too fast nor twice too slow.
fn has_its_clocks(vm: &Vm) -> anyhow::Result<()> {
    let doubts = vm.execute(&format!("dmesg | grep -E '{DOUBTS}'"))?;
    ensure!(doubts.status == 1, "VM {}: its kernel says {}", vm.name(), doubts.stdout);
    let uptime = || -> anyhow::Result<f64> {
        let read = vm.succeed("cat /proc/uptime")?;
        Ok(read.split_whitespace().next().context("an empty file")?.parse()?)
    };
    let (began, before) = (Instant::now(), uptime()?);
    vm.succeed("sleep 2")?;
    let (guest, host) = (uptime()? - before, began.elapsed().as_secs_f64());
    // What the commands take is time for both, and the guest's is within the host's.
    ensure!(
        guest > 1.0 && guest < 2.0 * host,
        "VM {}: {guest:.2} s went by for it while {host:.2} s did for the driver",
        vm.name()
    );
    Ok(())
}
