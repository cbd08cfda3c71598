//! Suites with simulated machines (`--engine simulated`): what the driver makes of machines that boot, panic, die
//! and ignore their power button, without waiting for a guest.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use camino::Utf8PathBuf;
use fs_err as fs;
use steading::{Boot, Group, Suite, Testnet, VmSpec, VmState};

/// Far more than a simulated machine takes for anything.
const LONG: Duration = Duration::from_secs(60);

/// A machine that boots without incident.
const BOOTS: &str = "print Linux version 6.1\nwait 50ms\nprint login:";

/// How many machines a large group has.
const MANY: usize = 100;

/// The suite of this name, if there is one.
pub(crate) fn suite(name: &str, suite: Suite) -> Option<Suite> {
    Some(match name {
        "machines" => of_one(suite, BOOTS)
            .test("boots", boots)
            .test("reboots", reboots)
            .test("loses_power", loses_power)
            .test("is_paused", is_paused)
            .test("powers_off", powers_off),
        "machine_panics" => of_one(suite, "wait 50ms\npanic").test("waits", waits).test("after", |_| Ok(())),
        "machine_dies" => of_one(suite, "wait 50ms\ndie 3").test("waits", waits),
        "machine_powers_off" => of_one(suite, "wait 50ms\npower-off").test("waits", waits),
        "machine_resets" => {
            of_one(suite, &format!("{BOOTS}\nboot 1: wait 50ms\nboot 1: reset")).test("resets", |testnet| {
                let vm = testnet.vm("n1").within(LONG);
                vm.wait_for_console("login:(?s).*login:")?;
                ensure!(vm.status()?.boot == 2, "it is in boot {}", vm.status()?.boot);
                Ok(())
            })
        }
        // The driver presses the button again after some seconds.
        "machine_misses_the_button" => {
            of_one(suite, "print login:\nignore power-button\nwait 1s\nuse power-button")
                .test("powers_off", powers_off)
        }
        "machine_makes_no_sense" => of_one(suite, "jump").test("never", |_| Ok(())),
        "many_machines" => many(suite),
        _ => return None,
    })
}

fn of_one(suite: Suite, script: &str) -> Suite {
    let script = script.to_owned();
    suite.testnet(move || Ok(Testnet::new().vm(machine("n1", &script)?)))
}

/// A machine with this script, which is written to the working directory.
fn machine(name: &str, script: &str) -> anyhow::Result<VmSpec> {
    let dir = Utf8PathBuf::try_from(std::env::current_dir()?)?;
    let kernel = dir.join(format!("{name}.script"));
    fs::write(&kernel, format!("#!steading-simulated\n{script}\n"))?;
    Ok(VmSpec::new(name, Boot::Kernel { kernel, initrd: None, cmdline: String::new() }))
}

fn boots(testnet: &Group) -> anyhow::Result<()> {
    let found = testnet.vm("n1").within(LONG).wait_for_console(r"Linux version (\S+)")?;
    ensure!(found.text.contains("6.1"), "it said {found:?}");
    Ok(())
}

fn reboots(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("n1");
    let before = vm.status()?.boot;
    vm.reboot()?;
    ensure!(vm.status()?.boot == before + 1, "it is in boot {} after {before}", vm.status()?.boot);
    vm.within(LONG).wait_for_console("login:").map(drop)
}

fn loses_power(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("n1");
    vm.kill()?;
    ensure!(vm.status()?.state == VmState::Off, "it is {:?}", vm.status()?.state);
    vm.start()?;
    vm.within(LONG).wait_for_console("login:").map(drop)
}

fn is_paused(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("n1");
    vm.pause()?;
    ensure!(vm.status()?.state == VmState::Paused, "it is {:?}", vm.status()?.state);
    vm.resume()?;
    ensure!(vm.status()?.state == VmState::Running, "it is {:?}", vm.status()?.state);
    Ok(())
}

fn powers_off(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("n1").within(LONG);
    vm.wait_for_console("login:")?;
    vm.shutdown()?;
    let ended = vm.status()?.ended.context("it is on")?;
    ensure!(ended == "the guest powered off", "it is off: {ended}");
    Ok(())
}

/// For what never comes.
fn waits(testnet: &Group) -> anyhow::Result<()> {
    testnet.vm("n1").within(LONG).wait_for_console("what it never says").map(drop)
}

/// A large group, of which one machine panics.
fn many(suite: Suite) -> Suite {
    let name = |number: usize| format!("n{number}");
    suite
        .testnet(move || {
            let script = |number| if number == MANY { format!("{BOOTS}\npanic") } else { BOOTS.to_owned() };
            let machines = (1..=MANY).map(|number| machine(&name(number), &script(number)));
            Ok(Testnet::new().vms(machines.collect::<anyhow::Result<Vec<_>>>()?))
        })
        .test("all_boot", move |testnet| {
            for number in 1..=MANY {
                testnet.vm(&name(number)).within(LONG).wait_for_console("login:")?;
            }
            Ok(())
        })
        .test("one_has_panicked", move |testnet| {
            testnet.vm(&name(MANY)).within(LONG).wait_for_console("Kernel panic")?;
            let panicked = (1..=MANY)
                .filter(|number| testnet.vm(&name(*number)).status().is_ok_and(|status| status.panicked));
            ensure!(panicked.eq([MANY]), "others have, too");
            Ok(())
        })
}
