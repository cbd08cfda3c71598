//! Suites whose testnet is wrong, one for each way; `MISHAP` says which. The tests beside it
//! (`tests/driver`) run them and look at what the driver makes of them. What functions can do wrong
//! is in `suites/scenarios`.

mod guest;
mod mishap;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use mishap::Mishap;
use steading::{Boot, ForkFallback, Group, ImageSource, Sha256, Suite, Testnet, VmSpec, reference};

/// Names a disk image, for the mishaps that are about one.
const IMAGE: &str = "MISHAP_IMAGE";

/// Names the directory of the run, for what is made for it.
const RUN: &str = "MISHAP_RUN";

/// How long a function may take that waits for what never comes.
const IN_VAIN: Duration = Duration::from_secs(20);

/// The same, for one that waits until the driver has seen that a guest hangs: a minute and some boot.
const UNTIL_SEEN: Duration = Duration::from_secs(85);

/// How long a function may take that waits for guests, of which several boot at once.
const BOOTS: Duration = Duration::from_secs(540);

fn main() -> ExitCode {
    // What it does not understand is told as a testnet that cannot be declared.
    let suite = match Mishap::from_environment() {
        Ok(mishap) => suite(mishap),
        Err(error) => {
            let message = error.to_string();
            Suite::new("mishaps").testnet(move || anyhow::bail!("{message}"))
        }
    };
    suite.main()
}

fn suite(mishap: Mishap) -> Suite {
    let suite = Suite::new("mishaps").testnet(move || testnet(mishap)).limit(BOOTS);
    match mishap {
        Mishap::NeverBoots => suite.limit(IN_VAIN).test("waits", |testnet| testnet.vm("a").wait_for_ssh()),
        Mishap::Hangs => suite.limit(UNTIL_SEEN).test("waits", |testnet| testnet.vm("spins").wait_for_ssh()),
        Mishap::Pictured => suite.test("fails", |_| anyhow::bail!("look at the picture")),
        Mishap::PowersOff | Mishap::Panics => suite
            .test("waits_for_ssh", |testnet| testnet.vm("a").wait_for_ssh())
            .test("waits_for_its_console", |testnet| {
                testnet.vm("a").wait_for_console("never said").map(|_| ())
            }),
        Mishap::Freezes => suite.parallel("forked", |section| {
            let section = section
                .fork_each(ForkFallback::Skip)
                .setup(|testnet| testnet.vm("a").wait_for_console("No bootable device").map(drop));
            ["one", "two", "three"].into_iter().fold(section, |section, name| {
                section.test(name, |testnet| {
                    loop {
                        testnet.freeze()?;
                    }
                })
            })
        }),
        Mishap::FailsLate => suite.test("fails_late", |testnet| {
            let vm = testnet.vm("a");
            vm.succeed("echo 'only in memory' >/run/kept; echo 'on the disk' >/root/kept")?;
            anyhow::bail!("as it must")
        }),
        Mishap::Shares => suite.test("runs", |testnet| {
            let vm = testnet.vm("a");
            vm.wait_for_console("No bootable device")?;
            guest::stay_for_a_while()?;
            // What is reserved is held from one of its processes to the next.
            vm.kill()?;
            vm.start()
        }),
        Mishap::Warm => suite.test("is_up", |testnet| testnet.vm("a").wait_for_ssh()),
        Mishap::Neighbours => suite.test("each_is_reached_and_no_other", guest::neighbours),
        _ => suite.test("never_runs", |_: &Group| Ok(())),
    }
}

fn testnet(mishap: Mishap) -> anyhow::Result<Testnet> {
    let bios = |name: &str| -> anyhow::Result<VmSpec> {
        Ok(VmSpec::new(name, Boot::Bios).disk(ImageSource::new(image()?)).memory_mib(64))
    };
    let named = |name: &str| Ok(Testnet::new().vm(bios(name)?));
    match mishap {
        Mishap::FailsLate | Mishap::Warm => Ok(Testnet::new().vm(reference::guest()?.vm("a"))),
        Mishap::Image | Mishap::NeverBoots | Mishap::Freezes | Mishap::Shares => named("a"),
        Mishap::Hangs => {
            let vm = |name: &str, code: &[u8]| -> anyhow::Result<VmSpec> {
                Ok(VmSpec::new(name, Boot::Bios).disk(boot_sector(name, code)?).memory_mib(64))
            };
            // With a display the firmware says nothing on the serial port.
            Ok(Testnet::new().vm(vm("spins", SPIN)?).vm(vm("idles", HALT)?.display()))
        }
        Mishap::Pictured => Ok(Testnet::new().vm(bios("a")?.display())),
        Mishap::WrongHash => {
            let other: Sha256 = "0".repeat(64).parse()?;
            let disk = ImageSource::new(image()?).sha256(other);
            Ok(Testnet::new().vm(VmSpec::new("a", Boot::Bios).disk(disk)))
        }
        Mishap::TooMuchMemory => Ok(Testnet::new().vm(bios("a")?).vm(bios("b")?.memory_mib(1 << 26))),
        Mishap::TooManyVcpus => Ok(Testnet::new().vm(bios("a")?.vcpus(10_000))),
        Mishap::SameName => Ok(Testnet::new().vm(bios("a")?).vm(bios("b")?).vm(bios("a")?)),
        Mishap::LongName => named(&"n".repeat(300)),
        Mishap::SpaceInName => named("my vm"),
        Mishap::SlashInName => named("../vm"),
        Mishap::PowersOff => {
            let mut vm = reference::guest()?.vm("a");
            add_to_cmdline(&mut vm, " systemd.unit=poweroff.target");
            Ok(Testnet::new().vm(vm))
        }
        Mishap::Panics => {
            let mut vm = reference::guest()?.vm("a");
            add_to_cmdline(&mut vm, " rdinit=/nonexistent");
            Ok(Testnet::new().vm(vm))
        }
        Mishap::Neighbours => {
            let guest = reference::guest()?;
            Ok(Testnet::new().vm(guest.vm("alpha")).vm(guest.vm("beta")))
        }
    }
}

/// `jmp` to itself.
const SPIN: &[u8] = &[0xeb, 0xfe];

/// `cli`, `hlt`, and a jump back to both.
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfc];

/// A disk whose first sector is this program.
fn boot_sector(name: &str, code: &[u8]) -> anyhow::Result<ImageSource> {
    const SECTOR: usize = 512;
    let mut disk = vec![0; 1 << 20];
    disk[..code.len()].copy_from_slice(code);
    disk[SECTOR - 2..SECTOR].copy_from_slice(&[0x55, 0xaa]);
    let run = std::env::var(RUN).with_context(|| format!("{RUN} is not set"))?;
    let path = format!("{run}/{name}.img");
    std::fs::write(&path, disk)?;
    Ok(ImageSource::new(path))
}

fn image() -> anyhow::Result<String> {
    std::env::var(IMAGE).with_context(|| format!("{IMAGE} is not set\nhint: it names a disk image"))
}

fn add_to_cmdline(vm: &mut VmSpec, more: &str) {
    if let Boot::Kernel { cmdline, .. } = &mut vm.boot {
        cmdline.push_str(more);
    }
}
