//! A host VM and a VM inside it, on one network: what is the same as with any other VM, and what becomes
//! of the one when the other is rebooted, killed or upgraded.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use steading::{Boot, Fault, FileSource, Group, Suite, Testnet, Vm, VmState, host, reference};

/// Where the root file system of the reference guest's disk begins, in bytes.
const ROOT_OFFSET: u64 = 65 << 20;

/// What tells the versions of the inner VM apart.
const VERSION: &str = "/etc/inner-version";

/// Emulated, a VM inside another is slow to boot, and more so beside others.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    Suite::new("nested")
        .testnet(|| {
            let mut inner = reference::guest()?.vm("inner").memory_mib(320).inside("outer");
            // Each byte on its console is an exit to its host, and what the kernel says is in its journal, too.
            if let Boot::Kernel { cmdline, .. } = &mut inner.boot {
                cmdline.push_str(" loglevel=4");
            }
            Ok(Testnet::new().vm(host::guest()?.vm("outer")).vm(inner))
        })
        .limit(LIMIT)
        .setup(|testnet| inner(testnet).wait_for_ssh())
        .test("it_is_on_the_groups_network_with_its_planned_address", network)
        .test("its_console_and_its_journal_are_its_own", logs)
        .test("it_is_killed_and_started_and_keeps_its_disk", killed)
        .test("it_is_upgraded_by_its_host", upgraded)
        .test("it_goes_on_while_its_host_is_upgraded_and_comes_back_with_it", host_upgraded)
        .test("it_ends_with_its_host", host_killed)
        .main()
}

fn inner(testnet: &Group) -> Vm {
    testnet.vm("inner").within(LIMIT)
}

fn outer(testnet: &Group) -> Vm {
    testnet.vm("outer").within(LIMIT)
}

fn network(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    ensure!(inner.succeed("systemd-detect-virt || true")?.trim() == "kvm", "it does not run under KVM");
    ensure!(inner.succeed("hostname")?.trim() == "inner");
    let shown = inner.succeed("ip -6 -oneline address show dev enp1s0 scope global")?;
    ensure!(shown.contains(&format!(" {}/64 ", inner.address())), "it has {shown}");
    // Names are known a little later than addresses.
    outer.wait_until_succeeds("ping -c 1 -W 10 inner")?;
    inner.wait_until_succeeds("ping -c 1 -W 10 outer")?;
    // No end of its card is the group's.
    let error = testnet.fault(Fault::cut("inner")).err().context("it was cut")?.to_string();
    ensure!(error.contains("VM inner runs inside outer"), "{error}");
    Ok(())
}

fn logs(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    inner.succeed("logger -t nested-suite to-the-journal")?;
    inner.wait_for_journal("to-the-journal")?;
    inner.succeed("echo to-the-console >/dev/console")?;
    inner.wait_for_console("to-the-console")?;
    let tail = outer.succeed("journalctl --quiet --output=cat --identifier=nested:inner")?;
    ensure!(tail.trim() == "on", "its host tells of it: {tail}");
    Ok(())
}

fn killed(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    inner.succeed("echo kept >/root/kept; sync /root/kept")?;
    let boot = inner.status()?.boot;
    inner.kill()?;
    let status = inner.status()?;
    ensure!(status.state == VmState::Off, "it is {:?}", status.state);
    ensure!(outer.status()?.state == VmState::Running, "its host is off, too");
    inner.start()?;
    inner.wait_for_ssh()?;
    ensure!(inner.status()?.boot == boot + 1, "it is boot {}", inner.status()?.boot);
    ensure!(inner.succeed("cat /root/kept")?.trim() == "kept");
    Ok(())
}

/// The other version is the same image with one more file.
fn upgraded(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    inner.fail(&format!("test -e {VERSION}"))?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let source = reference::guest()?.disk().path;
    run("zstd", &["-q", "-d", source.as_str(), "-o", &path("disk")])?;
    // It has the mode of the image, which nobody is to write to.
    fs_err::set_permissions(path("disk"), Permissions::from_mode(0o600))?;
    fs_err::write(path("version"), "2\n")?;
    let root = format!("{}?offset={ROOT_OFFSET}", path("disk"));
    run("debugfs", &["-w", "-R", &format!("write {} {VERSION}", path("version")), &root])?;
    // Its exit status tells nothing.
    ensure!(run("debugfs", &["-R", &format!("cat {VERSION}"), &root])?.trim() == "2", "nothing was written");
    run("zstd", &["-q", "-1", &path("disk"), "-o", &path("disk.zst")])?;
    let image = testnet.add_file(FileSource::new(path("disk.zst")).name("inner-2"))?;
    let other = testnet.add_file(FileSource::new(path("version")).name("other"))?;
    let upgrade = |url: &str| format!("steading-nested upgrade inner {url} {}", image.sha256());
    let said = outer.fail(&format!("{} 2>&1", upgrade(other.url())))?;
    ensure!(said.contains("is not the image of this digest"), "{said}");
    ensure!(inner.status()?.state == VmState::Running, "it ended for an image that was refused");
    let boot = inner.status()?.boot;
    outer.succeed(&upgrade(image.url()))?;
    // It was turned off and on behind its handle's back: a wait may not begin in between.
    while inner.status()?.boot == boot {
        outer.succeed("sleep 0.2")?;
    }
    inner.wait_until_succeeds(&format!("grep -qx 2 {VERSION}"))?;
    inner.fail("test -e /root/kept").map(drop)
}

/// The upgrade is downloaded and written while the VM inside runs; rebooting takes it along.
fn host_upgraded(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    let runs = |version: &str| format!("grep -qx IMAGE_VERSION={version} /etc/os-release");
    outer.succeed(&runs("1"))?;
    let update = testnet.add_file(host::guest()?.update("2")?.name("host-2"))?;
    inner.succeed("echo kept >/root/kept; sync /root/kept")?;
    // Of the test before this one, if that was run.
    let inner_version = || inner.succeed(&format!("cat {VERSION} 2>&1 || true"));
    let before = inner_version()?;
    let boot = inner.status()?.boot;
    outer.succeed(&format!("steading-update {} 2>&1", update.url()))?;
    let status = inner.status()?;
    ensure!((status.state, status.boot) == (VmState::Running, boot), "it is {status:?}");
    outer.succeed(&runs("1"))?;
    outer.reboot()?;
    outer.wait_until_succeeds(&runs("2"))?;
    inner.wait_until_succeeds("test $(cut -d. -f1 /proc/uptime) -lt 600 && cat /root/kept")?;
    ensure!(inner.status()?.boot == boot + 1, "it is boot {}", inner.status()?.boot);
    ensure!(inner_version()? == before, "its own version is another");
    outer.wait_for_console("version 2 is well").map(drop)
}

fn host_killed(testnet: &Group) -> anyhow::Result<()> {
    let (inner, outer) = (inner(testnet), outer(testnet));
    outer.kill()?;
    let status = inner.status()?;
    ensure!(status.state == VmState::Off, "it is {:?}", status.state);
    ensure!(status.ended.as_deref() == Some("its host, VM outer, is off"), "{:?}", status.ended);
    let error = inner.start().err().context("it was started in a host that is off")?.to_string();
    ensure!(error.contains("cannot start VM inner inside it"), "{error}");
    outer.start()?;
    inner.wait_for_ssh()
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
