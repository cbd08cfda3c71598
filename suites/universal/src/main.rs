//! Helper hosts: a Debian that does what a test hands it, by a configuration disk or cloud-init; containers;
//! and a Prometheus that follows the VMs of its testnet.

mod container;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading::{
    CloudInit, Group, GuestConfig, Sample, Suite, Testnet, VmState, at_once, reference, universal,
};

/// Runs on the helper: it serves a file of the disk it comes from.
const ACTIVATE: &str = "#!/bin/sh
set -eu
mkdir -p /srv/www
cp greeting.txt /srv/www/
systemd-run -q -u greeting python3 -m http.server --bind :: --directory /srv/www 8080
echo \"activated in $(pwd)\"
";

const GREETING: &str = "greetings from the configuration disk\n";

/// Fails on its VM, and says why.
const BROKEN_ACTIVATE: &str = "#!/bin/sh
echo 'the licence server is not in the mood'
exit 3
";

const USER_DATA: &str = "#cloud-config
write_files:
  - path: /srv/www/cloud.txt
    content: written by cloud-init
runcmd:
  - [systemd-run, -q, -u, cloud, python3, -m, http.server, --bind, '::', --directory, /srv/www, '8080']
";

/// etcd, which tells metrics where it serves clients.
const ETCD: &str = "systemd-run -q -u store etcd --data-dir /run/etcd \
    --listen-client-urls http://[::]:2379 --advertise-client-urls http://[::]:2379";
const ETCD_PORT: u16 = 2379;

/// A whole Debian has much to do, and two that are emulated side by side take minutes on a busy machine.
const BOOT: Duration = Duration::from_secs(9 * 60);

fn main() -> ExitCode {
    Suite::new("universal")
        .testnet(declare)
        .setup(|testnet| {
            // Nobody waits for the slowest before something is done.
            at_once(&testnet.vms(), |vm| match vm.name() {
                "helper" => vm.within(BOOT).wait_until_activated(),
                "metrics" => vm.within(BOOT).wait_for_cloud_init(),
                _ => vm.wait_for_ssh(),
            })?;
            testnet.vm("n1").succeed(ETCD).map(drop)
        })
        .test("activate_of_a_configuration_disk_runs", activated)
        .test("cloud_init_runs", cloud_init)
        .test("a_container_from_a_tarball_runs", container_runs)
        .test("a_tarball_that_is_none_is_refused_with_what_podman_says", no_tarball)
        .test("what_activate_says_when_it_fails_is_in_the_error", broken)
        .test("a_helper_has_an_ipv4_address_by_its_second_card_alone", second_card)
        .test("a_clock_that_is_a_day_wrong_is_set_right_by_timesyncd", clock)
        .test("metrics_follow_vms_that_come_and_go", metrics)
        .main()
}

fn declare() -> anyhow::Result<Testnet> {
    let (small, guest) = (reference::guest()?, universal::guest()?);
    let mut metrics = guest.metrics_vm("metrics");
    metrics.config.cloud_init = Some(CloudInit { user_data: USER_DATA.to_owned(), ..CloudInit::default() });
    let helper = config_disk("helper", &[("activate", ACTIVATE), ("greeting.txt", GREETING)])?;
    Ok(Testnet::new()
        .vm(guest.vm("helper").second_card().config(helper))
        .vm(metrics)
        .vm(small.vm("n1").metrics(ETCD_PORT))
        .vm(small.vm("broken").config(config_disk("broken", &[("activate", BROKEN_ACTIVATE)])?)))
}

/// A directory as a test would have it in its repository; here beside the logs.
fn config_disk(name: &str, files: &[(&str, &str)]) -> anyhow::Result<GuestConfig> {
    let directory = Utf8PathBuf::try_from(std::env::current_dir()?)?.join("out/universal.config").join(name);
    fs::create_dir_all(&directory)?;
    for (name, text) in files {
        fs::write(directory.join(name), text)?;
    }
    Ok(GuestConfig { config_dir: Some(directory), ..GuestConfig::default() })
}

fn activated(testnet: &Group) -> anyhow::Result<()> {
    let helper = testnet.vm("helper");
    helper.wait_for_open_port(8080)?;
    let said = testnet.http()?.get(helper.url(8080, "greeting.txt"))?.succeed()?.text();
    ensure!(said == GREETING, "it serves {said:?}");
    helper.wait_for_console("activated in /run/config")?;
    Ok(())
}

fn cloud_init(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("metrics");
    vm.wait_for_open_port(8080)?;
    let said = testnet.http()?.get(vm.url(8080, "cloud.txt"))?.succeed()?.text();
    ensure!(said.trim() == "written by cloud-init", "it serves {said:?}");
    Ok(())
}

fn container_runs(testnet: &Group) -> anyhow::Result<()> {
    let helper = testnet.vm("helper");
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), container::archive()?)?;
    let image = helper.load_container(utf8(file.path())?)?;
    ensure!(image == container::NAME, "podman calls it {image}");
    helper.succeed(&format!("podman run --quiet --detach --name web --network host {image}"))?;
    helper.wait_for_open_port(8000)?;
    let said = testnet.http()?.get(helper.url(8000, ""))?.succeed()?.text();
    ensure!(said == container::PAGE, "it serves {said:?}");
    helper.succeed("podman rm --force --time 0 web").map(drop)
}

fn no_tarball(testnet: &Group) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), "this is no archive")?;
    let refused = testnet.vm("helper").load_container(utf8(file.path())?);
    let said = format!("{:#}", refused.err().context("it was loaded")?);
    ensure!(said.contains("podman failed: ") && said.contains("hint: check that it is an archive"), "{said}");
    ensure!(testnet.files()?.is_empty(), "the file is still served");
    let missing = testnet.vm("helper").load_container("/no/such/file.tar");
    let said = format!("{:#}", missing.err().context("it was loaded")?);
    ensure!(said.contains("/no/such/file.tar") && said.contains("No such file"), "{said}");
    Ok(())
}

fn broken(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("broken");
    let failed = vm.wait_until_activated();
    let said = format!("{:#}", failed.err().context("it is said to have been activated")?);
    ensure!(said.contains("`activate` failed"), "{said}");
    ensure!(said.contains("the licence server is not in the mood"), "{said}");
    let none = testnet.vm("n1").wait_until_activated();
    let said = format!("{:#}", none.err().context("it has no configuration disk")?);
    ensure!(said.contains("no disk labelled CONFIG"), "{said}");
    Ok(())
}

fn second_card(testnet: &Group) -> anyhow::Result<()> {
    let helper = testnet.vm("helper");
    let wanted = helper.plan().second_address.context("the plan gives it none")?;
    let said = helper.wait_until_succeeds("ip -4 -o addr show scope global | grep inet")?;
    ensure!(said.lines().count() == 1, "it has these addresses:\n{said}");
    ensure!(said.contains("enp2s0") && said.contains(&format!(" {wanted}/24 ")), "it has {said}");
    Ok(())
}

/// Debian's own timesyncd, as it is configured by Debian: it asks names of a pool for the time.
fn clock(testnet: &Group) -> anyhow::Result<()> {
    let helper = testnet.vm("helper");
    let off_by = || -> anyhow::Result<f64> {
        let guest: f64 = helper.succeed("date +%s.%N")?.trim().parse()?;
        let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(guest - host)
    };
    for wrong in ["+1 day", "-1 day"] {
        // What it remembers of the time would keep it from going back.
        helper.succeed(&format!(
            "systemctl stop systemd-timesyncd && rm -rf /var/lib/private/systemd/timesync \
             /var/lib/systemd/timesync /run/systemd/timesync && date -s '{wrong}'"
        ))?;
        ensure!(off_by()?.abs() > 80_000.0, "its clock is right");
        helper.succeed("systemctl start systemd-timesyncd")?;
        helper.wait_until_succeeds(
            "timedatectl show -p NTPSynchronized | grep -q yes && [ -e /run/systemd/timesync/synchronized ]",
        )?;
        let off_by = off_by()?;
        ensure!(off_by.abs() < 2.0, "its clock is {off_by} s off");
    }
    Ok(())
}

fn metrics(testnet: &Group) -> anyhow::Result<()> {
    let (metrics, n1) = (testnet.metrics("metrics")?, testnet.vm("n1"));
    n1.wait_for_open_port(ETCD_PORT)?;
    let is_up =
        |samples: &[Sample]| matches!(samples, [one] if one.label("vm") == Some("n1") && one.value() > 0.5);
    metrics.wait_until("up", is_up)?;
    let leader = metrics.wait_until("etcd_server_has_leader", |samples| !samples.is_empty())?;
    ensure!(leader[0].value() > 0.5, "it says {leader:?}");
    n1.kill()?;
    ensure!(n1.status()?.state == VmState::Off);
    // Who is gone is no target that is down: it is none.
    metrics.wait_until("up", <[Sample]>::is_empty)?;
    n1.start()?;
    n1.succeed(ETCD)?;
    metrics.wait_until("up", is_up)?;
    let wrong = metrics.query("up{").err().context("a query that is none is answered")?;
    ensure!(format!("{wrong:#}").contains("Prometheus reported: "), "{wrong:#}");
    let saved = metrics.save()?;
    let size = fs::metadata(&saved)?.len();
    ensure!(size > 1000, "{saved} has {size} bytes");
    Ok(())
}

fn utf8(path: &std::path::Path) -> anyhow::Result<&Utf8Path> {
    Utf8Path::from_path(path).context("the temporary directory is no text")
}
