//! A guest without systemd, SSH, agent or disk: a kernel, busybox, and a script. It shows what Steading needs of
//! a guest: nothing, for what is done from outside; an address from the router, for the network.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading::reference::ReferenceGuest;
use steading::{Boot, Fault, Group, VmSpec, VmState};

/// Debian's package `busybox-static`.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Process 1. The kernel takes the address that the router advertises by itself.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc
busybox --install -s /bin
mount -t sysfs none /sys
mount -t devtmpfs none /dev
while read -r module; do insmod \"/modules/$module\"; done </modules/order
for card in lo eth0; do ip link set \"$card\" up; done
httpd -p 80 -h /www
echo small: it serves
while :; do sleep 1000; done
";

const PAGE: &str = "from a guest without systemd\n";

/// A VM of it. The kernel and its modules are the reference guest's.
pub(crate) fn vm(name: &str, reference: &ReferenceGuest) -> anyhow::Result<VmSpec> {
    let busybox = fs::read(BUSYBOX).context(
        "the small guest needs busybox\nhint: apt-get install --no-install-recommends busybox-static",
    )?;
    let mut initrd = fs::read(reference.initrd())?;
    // What comes later goes over what was there before (Documentation/driver-api/early-userspace/buffer-format.rst).
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(archive(&[
        ("bin", 0o040_755, b""),
        ("bin/busybox", 0o100_755, &busybox),
        ("www", 0o040_755, b""),
        ("www/index.html", 0o100_644, PAGE.as_bytes()),
        ("init", 0o100_755, INIT.as_bytes()),
    ]));
    let path = directory()?.join("small.initrd");
    fs::write(&path, initrd)?;
    let boot = Boot::Kernel {
        kernel: reference.kernel(),
        initrd: Some(path),
        cmdline: "console=ttyS0 panic=0 mitigations=off tsc=reliable no_timer_check".to_owned(),
    };
    Ok(VmSpec::new(name, boot).memory_mib(256))
}

fn directory() -> anyhow::Result<Utf8PathBuf> {
    let directory = Utf8PathBuf::try_from(std::env::current_dir()?)?.join("out/guests.small");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// An archive of files as the kernel unpacks it (cpio's format `newc`).
fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let end = ("TRAILER!!!", 0, &b""[..]);
    for (number, (name, mode, content)) in (1..).zip(files.iter().chain([&end])) {
        let mut head = "070701".to_owned();
        let size = content.len();
        // Inode, mode, owner, group, links, time, size, device and its own, name with its NUL, sum.
        for field in [number, *mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() + 1, 0] {
            write!(head, "{field:08x}").expect("a String takes all");
        }
        archive.extend(head.as_bytes());
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

pub(crate) fn test(testnet: &Group) -> anyhow::Result<()> {
    let small = testnet.vm("small");
    small.wait_for_console("small: it serves")?;
    small.wait_for_open_port(80)?;
    let said = testnet.http()?.get(small.url(80, ""))?.succeed()?.text();
    ensure!(said == PAGE, "it serves {said:?}");
    // Others find it by its name.
    let said = testnet.vm("configured").succeed("curl -sSf http://small/")?;
    ensure!(said == PAGE, "another guest is served {said:?}");
    let cut = testnet.fault(Fault::cut("small"))?;
    ensure!(!small.has_open_port(80), "it is reached though it is cut");
    cut.undo()?;
    small.pause()?;
    ensure!(small.status()?.state == VmState::Paused);
    small.resume()?;
    small.kill()?;
    small.start()?;
    small.wait_for_open_port(80)?;
    let console = fs::read_to_string(Utf8Path::new(testnet.log_dir()).join("vms/small/console.log"))?;
    let boots = console.matches("small: it serves").count();
    ensure!(boots == 2, "its console has {boots} boots");
    Ok(())
}
