//! Upgrades of a node that downloads them: when all goes well, and when downloads, the plug, or the new
//! version itself do not. Each test has a fork of its own of a node that has booted.

mod node;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use node::Node;
use steading::{FileFault, FileSource, ForkFallback, Group, Sha256, Suite, Testnet, upgradable};

/// Names of updates, as the file server has them.
const OLD: &str = "update-1";
const NEW: &str = "update-2";
const BROKEN: &str = "update-broken";

/// An update to the new version that is not what it should be.
const DAMAGED: &str = "damaged";

fn main() -> ExitCode {
    Suite::new("upgrade")
        .testnet(|| {
            let guest = upgradable::guest()?;
            Ok(Testnet::new()
                .vm(guest.vm("node"))
                .file(guest.update("1")?.name(OLD))
                .file(guest.update("2")?.name(NEW))
                .file(guest.update("broken")?.name(BROKEN)))
        })
        .setup(|testnet| node(testnet).comes_up_with("1"))
        .parallel("forked", |section| {
            section
                .fork_each(ForkFallback::Boot)
                .test("a_node_reboots_into_what_it_downloaded_and_keeps_its_data", upgrades)
                .test("a_node_goes_back_to_an_older_version", downgrades)
                .test("bad_urls_are_passed_over_for_an_alternative", falls_back)
                .test("a_download_that_is_cut_goes_on_where_it_was", resumes)
                .test("wrong_bytes_are_refused_and_change_nothing", refuses)
                .test("one_wrong_byte_is_refused_and_changes_nothing", refuses_one_byte)
                .test("a_node_killed_during_the_write_boots_the_old_version_and_is_upgraded_then", killed)
                .test("a_version_whose_kernel_panics_is_rolled_back", panics)
                .test("a_version_that_is_not_well_is_rolled_back", is_not_well)
        })
        .main()
}

fn node(testnet: &Group) -> Node {
    Node { vm: testnet.vm("node") }
}

fn upgrades(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    node.vm.succeed("echo kept >/var/lib/data; sync /var/lib/data")?;
    let known_by = node.vm.succeed("cat /etc/machine-id")?;
    node.update(&[update.url()])?;
    ensure!(node.version()? == "1", "it has changed without a reboot");
    node.vm.reboot()?;
    node.comes_up_with("2")?;
    ensure!(node.slot()? == "B", "it runs from slot {}", node.slot()?);
    ensure!(node.vm.succeed("cat /var/lib/data")? == "kept\n", "its data is another");
    ensure!(node.vm.succeed("cat /etc/machine-id")? == known_by, "it is another machine");
    // It was told to be well, so it stays.
    node.vm.kill()?;
    node.vm.start()?;
    node.comes_up_with("2")
}

fn downgrades(testnet: &Group) -> anyhow::Result<()> {
    let node = node(testnet);
    for (file, version, slot) in [(NEW, "2", "B"), (OLD, "1", "A")] {
        node.update(&[testnet.file(file)?.url()])?;
        node.vm.reboot()?;
        node.comes_up_with(version)?;
        ensure!(node.slot()? == slot, "version {version} runs from slot {}", node.slot()?);
    }
    Ok(())
}

fn falls_back(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    let missing = testnet.plan().addresses.file_url(&Sha256::of("no such file").to_string());
    let nobody = format!("http://[{}]:1/update", testnet.plan().addresses.files);
    // Others would do as well, and give less than they should.
    let broken = testnet.file(BROKEN)?;
    let _reset = testnet.file_fault(FileFault::refuse().of(BROKEN))?;
    let old = testnet.file(OLD)?;
    let _slow = testnet.file_fault(FileFault::slow(100).of(OLD))?;
    let said = node.update(&[&missing, &nobody, broken.url(), old.url(), update.url()])?;
    for url in [&missing, &nobody, broken.url(), old.url()] {
        ensure!(said.contains(&format!("{url}: given up")), "it does not tell of {url}: {said}");
    }
    ensure!(said.contains(&format!("installed from {}", update.url())), "it says: {said}");
    ensure!(node.next_slot()? == "B", "what was installed is not booted next");
    Ok(())
}

fn resumes(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    // Each answer is cut after as much.
    let part = update.size() / 3 + 1;
    let _cut = testnet.file_fault(FileFault::cut_after(part).of(NEW))?;
    node.update(&[update.url()])?;
    ensure!(node.next_slot()? == "B", "what was put together is not booted next");
    let log = fs_err::read_to_string(format!("{}/log.jsonl", testnet.log_dir()))?;
    let accesses = log.lines().filter_map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        let access = record.get("access")?;
        (access["file"] == NEW).then(|| (access["status"].as_u64(), access["first"].as_u64()))
    });
    let accesses: Vec<_> = accesses.collect();
    let wanted = [(200, 0), (206, part), (206, 2 * part)].map(|(status, first)| (Some(status), Some(first)));
    ensure!(accesses == wanted, "the file server was asked for: {accesses:?}");
    Ok(())
}

fn refuses(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    let wrong = testnet.file_fault(FileFault::corrupt().of(NEW))?;
    let said = node.refuses(&[update.url()])?;
    ensure!(said.contains("RAUC refuses"), "it says: {said}");
    ensure!(node.next_slot()? == "A", "what was refused is booted next");
    wrong.undo()?;
    // Nothing of what was wrong is used again.
    node.update(&[update.url()])?;
    ensure!(node.next_slot()? == "B", "what was installed is not booted next");
    Ok(())
}

/// The bundle begins as it should, so it is being written when the wrong byte is met.
fn refuses_one_byte(testnet: &Group) -> anyhow::Result<()> {
    let node = node(testnet);
    let mut damaged = tempfile::NamedTempFile::new()?;
    let mut update = fs_err::File::open(testnet.file(NEW)?.path)?;
    let middle = std::io::copy(&mut update, &mut damaged)? / 2;
    let mut byte = [0];
    update.seek(SeekFrom::Start(middle))?;
    update.read_exact(&mut byte)?;
    damaged.seek(SeekFrom::Start(middle))?;
    damaged.write_all(&[!byte[0]])?;
    damaged.flush()?;
    let path = damaged.path().to_str().context("the temporary directory is no text")?;
    let served = testnet.add_file(FileSource::new(path).name(DAMAGED))?;
    let said = node.refuses(&[served.url()])?;
    ensure!(said.contains("RAUC refuses"), "it says: {said}");
    ensure!(node.next_slot()? == "A", "what was refused is booted next");
    Ok(())
}

fn killed(testnet: &Group) -> anyhow::Result<()> {
    /// How much is to be written beforehand, in sectors of 512 bytes: 16 MiB.
    const PART: u64 = 32768;
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    // So that what is written is on the disk soon, and not in memory to the end.
    node.vm.succeed("sysctl -q vm.dirty_background_bytes=1048576 vm.dirty_bytes=4194304")?;
    node.vm.succeed(&format!("systemd-run -q -u update steading-update {}", update.url()))?;
    // The updater stands still in the middle, however fast the disk is.
    let written = node.vm.succeed(&format!(
        "partition=/sys/class/block/$(basename $(realpath /dev/disk/by-partlabel/root-B))
        written=0
        until [ $written -ge {PART} ]; do read -r _ _ _ _ _ _ written _ <$partition/stat; done
        systemctl kill -s STOP rauc.service
        read -r _ _ _ _ _ _ written _ <$partition/stat
        echo $written"
    ))?;
    let written: u64 = written.trim().parse().context("the kernel tells no number")?;
    ensure!(written * 512 < update.size() - 8_000_000, "{written} sectors are nearly all");
    node.vm.kill()?;
    node.vm.start()?;
    node.comes_up_with("1")?;
    ensure!(node.slot()? == "A", "it runs from slot {}", node.slot()?);
    node.update(&[update.url()])?;
    node.vm.reboot()?;
    node.comes_up_with("2")
}

fn panics(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(BROKEN)?);
    node.update(&[update.url()])?;
    let boot = node.vm.status()?.boot;
    node.vm.reboot()?;
    node.vm.wait_for_console("Kernel panic")?;
    rolls_back(&node, boot)
}

fn is_not_well(testnet: &Group) -> anyhow::Result<()> {
    let (node, update) = (node(testnet), testnet.file(NEW)?);
    // This machine finds fault with version 2.
    node.vm.succeed(
        "mkdir -p /var/lib/steading/health.d; cd /var/lib/steading/health.d
        printf '#!/bin/sh\\n. /etc/os-release\\ntest $IMAGE_VERSION != 2\\n' >dislikes-2
        chmod +x dislikes-2; sync dislikes-2",
    )?;
    node.update(&[update.url()])?;
    let boot = node.vm.status()?.boot;
    node.vm.reboot()?;
    node.vm.wait_for_console("version 2 is not well")?;
    rolls_back(&node, boot)
}

/// It tries the new version twice, and then has the old one.
fn rolls_back(node: &Node, boot: u32) -> anyhow::Result<()> {
    node.comes_up_with("1")?;
    ensure!(node.slot()? == "A", "it runs from slot {}", node.slot()?);
    let boots = node.vm.status()?.boot - boot;
    ensure!(boots == 3, "it has booted {boots} times, two of them the new version");
    Ok(())
}
