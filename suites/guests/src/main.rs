//! Every way to boot a guest, to configure it, and to reach it.

mod small;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading::{CloudInit, Group, GuestConfig, Suite, Testnet, Vm, reference};

/// What the guest is to find, by each way of configuring it.
const IGNITION: &str = r#"{"ignition":{"version":"3.3.0"}}"#;
const CREDENTIAL: &str = "with, a comma and = a sign";

/// Credentials that are larger than the page that guests read over SMBIOS, with some that are not: names, and bytes
/// of each.
const LARGE_CREDENTIALS: [(&str, usize); 5] = [
    ("steading.page", 3880),
    ("steading.two", 1900),
    ("three", 1900),
    ("steading.large", 20_000),
    ("vast", 100_000),
];

const USER_DATA: &str = "#cloud-config\nhostname: given\n";

fn main() -> ExitCode {
    Suite::new("guests")
        .testnet(|| {
            let guest = reference::guest()?;
            let mut config = GuestConfig {
                config_dir: Some(config_dir()?),
                ignition: Some(IGNITION.to_owned()),
                cloud_init: Some(CloudInit { user_data: USER_DATA.to_owned(), ..CloudInit::default() }),
                ..GuestConfig::default()
            };
            config.credentials.insert("steading.test".to_owned(), CREDENTIAL.to_owned());
            let large = LARGE_CREDENTIALS.map(|(name, bytes)| (name.to_owned(), content(name, bytes)));
            config.credentials.extend(large);
            Ok(Testnet::new()
                .vm(guest.vm("configured").second_card().config(config))
                .vm(guest.vm_uefi("uefi").display())
                .vm(guest.vm_bios("bios").display())
                .vm(small::vm("small", &guest)?))
        })
        .setup(|testnet| testnet.vm("configured").wait_for_ssh())
        .test("cards_have_stable_names_and_planned_addresses", cards)
        .test("a_config_disk_is_activated", config_disk)
        .test("a_cloud_init_disk_is_there", cloud_init_disk)
        .test("an_ignition_configuration_is_there", ignition)
        .test("a_credential_is_there", credential)
        .test("credentials_beyond_a_page_arrive_whole", large_credentials)
        .test("files_are_copied_both_ways", copies)
        .test("the_agent_answers_with_the_network_cut", agent)
        .test("a_unit_and_a_journal_can_be_waited_for", units_and_journals)
        .test("a_guest_boots_by_uefi", |testnet| boots(&testnet.vm("uefi"), "test -d /sys/firmware/efi"))
        .test("a_guest_boots_by_bios", |testnet| boots(&testnet.vm("bios"), "test ! -d /sys/firmware/efi"))
        .test("what_a_package_brings_for_the_boot_acts_at_the_next_one", package)
        .test("a_guest_without_systemd_needs_no_more_than_an_address", small::test)
        .test("a_screenshot_is_a_picture", screenshot)
        .test("a_guest_that_floods_its_console_costs_no_other_its_lines", flood)
        .test("waiting_ends_when_the_vm_is_killed", waiting_ends)
        .test("a_wait_after_a_reboot_was_met_by_the_boot_before", reboots_by_itself)
        .test("a_guest_that_suspends_itself_was_shown_as_running", suspends)
        .test("the_reboot_of_a_panicked_guest_was_waited_for", panics)
        .main()
}

/// A directory as a test would have it in its repository; here beside the logs.
fn config_dir() -> anyhow::Result<Utf8PathBuf> {
    let dir = Utf8PathBuf::try_from(std::env::current_dir()?)?.join("out/guests.config");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("activate"), "#!/bin/sh\ncp \"$(dirname \"$0\")/greeting\" /run/greeting\n")?;
    fs::write(dir.join("greeting"), "good morning")?;
    Ok(dir)
}

fn cards(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    let first = vm.succeed("ip -6 -o addr show dev enp1s0 scope global")?;
    ensure!(first.contains(&format!(" {}/64 ", vm.address())), "the first card has {first}");
    let ipv4 = vm.succeed("ip -4 -o addr show dev enp1s0")?;
    ensure!(ipv4.is_empty(), "the first card took a DHCPv4 lease: {ipv4}");
    let second = vm.wait_until_succeeds("ip -4 -o addr show dev enp2s0 | grep inet")?;
    let range = testnet.plan().addresses.ipv4;
    let address = second.split_whitespace().skip_while(|word| *word != "inet").nth(1);
    let address = address.and_then(|text| text.split('/').next()?.parse::<std::net::Ipv4Addr>().ok());
    let address = address.with_context(|| format!("the second card has no IPv4 address: {second}"))?;
    ensure!(range.contains(&address), "{address} is not in {range}");
    vm.succeed(&format!("ping -c 1 -W 10 {}", testnet.plan().addresses.ipv4_gateway))?;
    Ok(())
}

fn config_disk(testnet: &Group) -> anyhow::Result<()> {
    let greeting =
        testnet.vm("configured").wait_until_succeeds("test -s /run/greeting && cat /run/greeting")?;
    ensure!(greeting == "good morning", "activate left {greeting:?}");
    Ok(())
}

fn cloud_init_disk(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    vm.succeed("mkdir -p /mnt/seed && mount -o ro \"$(blkid -t LABEL=CIDATA -o device)\" /mnt/seed")?;
    let data = vm.succeed("cat /mnt/seed/user-data")?;
    ensure!(data == USER_DATA, "user-data is {data:?}");
    vm.succeed("grep -q 'local-hostname: configured' /mnt/seed/meta-data && umount /mnt/seed")?;
    Ok(())
}

fn ignition(testnet: &Group) -> anyhow::Result<()> {
    let file = "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw";
    let read = testnet.vm("configured").succeed(&format!("modprobe qemu_fw_cfg; cat {file}"))?;
    ensure!(read == IGNITION, "the guest reads {read:?}");
    Ok(())
}

fn credential(testnet: &Group) -> anyhow::Result<()> {
    let read = testnet.vm("configured").succeed("systemd-creds --system cat steading.test")?;
    ensure!(read == CREDENTIAL, "the guest reads {read:?}");
    Ok(())
}

/// Text of this many bytes, another for each name.
fn content(name: &str, bytes: usize) -> String {
    format!("{name}, ").chars().cycle().take(bytes).collect()
}

fn large_credentials(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    for (name, bytes) in LARGE_CREDENTIALS {
        let read = vm.succeed(&format!("systemd-creds --system cat {name}"))?;
        ensure!(read == content(name, bytes), "{name}: {} of {bytes} bytes arrived", read.len());
    }
    Ok(())
}

/// As PostgreSQL's packages do, which make their directory in /run by tmpfiles.d and their units by a generator.
const PACKAGE: &str = "
mkdir -p /usr/lib/systemd/system-generators /usr/lib/sysusers.d
cat >/usr/lib/tmpfiles.d/package.conf <<END
d /run/package 0751 daemon daemon
END
cat >/usr/lib/sysusers.d/package.conf <<END
u package-user -
END
cat >/usr/lib/systemd/system/package@.service <<END
[Service]
Type=oneshot
RemainAfterExit=yes
User=daemon
ExecStart=touch /run/package/%i
END
cat >/usr/lib/systemd/system-generators/package-generator <<'END'
#!/bin/sh
mkdir -p \"$1/multi-user.target.wants\"
ln -s /usr/lib/systemd/system/package@.service \"$1/multi-user.target.wants/package@one.service\"
END
chmod +x /usr/lib/systemd/system-generators/package-generator
touch /usr
sync
";

fn package(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("bios");
    vm.wait_for_ssh()?;
    vm.succeed(PACKAGE)?;
    vm.kill()?;
    vm.start()?;
    vm.wait_for_unit("package@one.service")?;
    vm.succeed("test -e /run/package/one && id package-user")?;
    Ok(())
}

fn copies(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    let dir = Utf8Path::new(testnet.log_dir());
    let (local, back) = (dir.join("sent"), dir.join("brought-back"));
    let data: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    fs::write(&local, &data)?;
    vm.copy_to(&local, "/root/it's here")?;
    vm.copy_from("/root/it's here", &back)?;
    ensure!(fs::read(&back)? == data, "1 MiB did not come back as it was sent");
    Ok(())
}

fn agent(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    let cut = vm.execute_by_agent("ip link set enp1s0 down && echo cut")?;
    ensure!(cut.stdout == "cut\n", "the agent says {cut:?}");
    ensure!(!vm.has_open_port(22), "its port 22 is open although its card is down");
    let name = vm.execute_by_agent("hostname; exit 3")?;
    ensure!((name.status, name.stdout.as_str()) == (3, "configured\n"), "the agent says {name:?}");
    vm.execute_by_agent("ip link set enp1s0 up")?;
    vm.wait_for_open_port(22)
}

fn units_and_journals(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("configured");
    vm.wait_for_unit("systemd-networkd.service")?;
    vm.succeed("logger -t test 'a word for the journal'")?;
    vm.wait_for_journal("a word for the (journal|diary)")?;
    let missing = vm.within(Duration::from_secs(5)).wait_for_unit("no-such.service");
    ensure!(missing.is_err(), "a unit that does not exist was found active");
    vm.fail("systemctl start no-such.service")?;
    Ok(())
}

fn boots(vm: &Vm, check: &str) -> anyhow::Result<()> {
    vm.wait_for_console("is up|login:")?;
    vm.succeed(check)?;
    let name = vm.succeed("hostname")?;
    ensure!(name.trim() == vm.name(), "its host name is {name:?}");
    Ok(())
}

fn screenshot(testnet: &Group) -> anyhow::Result<()> {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    let file = Utf8Path::new(testnet.log_dir()).join("bios.png");
    testnet.vm("bios").screenshot(&file)?;
    ensure!(fs::read(&file)?.starts_with(PNG), "{file} is no PNG file");
    ensure!(testnet.vm("configured").screenshot(&file).is_err(), "a VM without a display was pictured");
    Ok(())
}

/// Both write to their consoles as fast as emulation lets them, one of them without an end.
fn flood(testnet: &Group) -> anyhow::Result<()> {
    const LINES: usize = 50;
    let (loud, quiet) = (testnet.vm("bios"), testnet.vm("configured"));
    loud.succeed("systemd-run --unit=flood sh -c 'exec yes a flood of words >/dev/ttyS0'")?;
    loud.wait_for_console("a flood of words\\s+a flood of words")?;
    quiet.succeed(&format!("for i in $(seq {LINES}); do echo \"line $i of {LINES}\" >/dev/ttyS0; done"))?;
    for line in 1..=LINES {
        quiet.wait_for_console(&format!("line {line} of {LINES}"))?;
    }
    loud.succeed("systemctl stop flood")?;
    Ok(())
}

/// A wait for a VM that dies says so at once, with the end of its console.
fn waiting_ends(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("bios");
    let waiting = std::thread::spawn({
        let vm = vm.clone();
        move || vm.wait_until_succeeds("false")
    });
    vm.wait_for_ssh()?;
    vm.kill()?;
    let error = match waiting.join() {
        Ok(Err(error)) => format!("{error:#}"),
        other => anyhow::bail!("the wait came to {other:?}"),
    };
    ensure!(error.contains("power cut") && error.contains("console"), "the wait says only: {error}");
    Ok(())
}

/// A guest that takes its time to stop, so that its old boot still answers when the wait begins.
const SLOW_TO_STOP: &str = "systemd-run --unit=slow -p ExecStop='/bin/sleep 6' -p RemainAfterExit=yes true";

fn reboots_by_itself(testnet: &Group) -> anyhow::Result<()> {
    const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
    let vm = testnet.vm("uefi");
    let (boot, before) = (vm.boot()?, vm.succeed(BOOT_ID)?);
    vm.succeed(SLOW_TO_STOP)?;
    vm.succeed("systemctl --no-block reboot")?;
    vm.wait_for_ssh()?;
    let after = vm.succeed(BOOT_ID)?;
    ensure!(before != after && vm.boot()? == boot + 1, "boot {boot} was still there");

    vm.succeed(SLOW_TO_STOP)?;
    vm.succeed("systemctl --no-block reboot")?;
    vm.wait_for_boot(boot + 2)?;
    ensure!(vm.succeed(BOOT_ID)? != after, "boot {} was still there", boot + 1);
    Ok(())
}

/// The power button wakes it, and only when it is pressed once more does the guest power off.
fn suspends(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("uefi");
    // The command ends before the guest does what it is told.
    vm.succeed("systemd-run sh -c 'sleep 1; echo freeze >/sys/power/state'")?;
    vm.wait_for_console("printk: Suspending console")?;
    let ran = vm.within(Duration::from_secs(2)).execute("true");
    let error = ran.err().context("a guest that is suspended runs commands")?.to_string();
    ensure!(error.contains("the guest has suspended itself"), "the wait does not say why: {error}");
    ensure!(vm.status()?.suspended, "it is not shown as suspended");
    vm.reboot()?;
    ensure!(!vm.status()?.suspended, "it is shown as suspended after its reboot");
    vm.wait_for_ssh()
}

fn panics(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("uefi");
    vm.succeed("echo 1 >/proc/sys/kernel/sysrq; systemd-run sh -c 'sleep 1; echo c >/proc/sysrq-trigger'")?;
    vm.wait_for_console("Kernel panic - not syncing")?;
    for (verb, outcome) in [("reboot", vm.reboot()), ("shut down", vm.shutdown())] {
        let error = outcome.err().with_context(|| format!("{verb}: a panicked guest did it"))?.to_string();
        ensure!(error.contains("its kernel panicked") && error.contains("`kill`"), "{verb}: {error}");
    }
    vm.kill()?;
    vm.start()
}
