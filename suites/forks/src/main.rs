//! Freezes a testnet of two guests that are busy, and forks it: what each fork must have, and what
//! it must not.

mod busy;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use busy::Busy;
use steading::{ForkFallback, Group, Suite, Testnet, Vm, VmState, at_once, reference};

/// What the clock of a guest may be wrong by once its agent has set it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Where forks leave what others are to compare it with, in the directory of their logs.
const RANDOM: &str = "random.txt";

/// The name of a test may be longer than that of a file, and have characters that this cannot have.
fn has_logs_of_its_own(testnet: &Group) -> anyhow::Result<()> {
    let dir = std::path::Path::new(testnet.log_dir());
    let name = dir.file_name().and_then(|name| name.to_str()).context("the logs have no directory")?;
    ensure!(name.starts_with("forked--a-name--with-blanks---and-xxx"), "the directory is called {name}");
    ensure!(dir.join("log.jsonl").is_file(), "there is no log in {}", dir.display());
    Ok(())
}

fn main() -> ExitCode {
    Suite::new("forks")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new()
                .vm(guest.vm("client").second_card())
                .vm(guest.vm("server"))
                .vm(guest.vm("late").stopped()))
        })
        .setup(|testnet| {
            at_once(&both(testnet), Vm::wait_for_ssh)?;
            Busy::of(testnet).begin()
        })
        .parallel("forked", |section| {
            section
                .fork_each(ForkFallback::Skip)
                .test("one_that_breaks_things_finds_them_whole", breaks_things)
                .test("another_that_breaks_things_finds_them_whole", breaks_things)
                .test("a_connection_between_vms_goes_on", |testnet| Busy::of(testnet).goes_on())
                .test("clocks_are_right_within_a_second", clocks_are_right)
                .test("one_draws_random_numbers", draws_random_numbers)
                .test("another_draws_random_numbers", draws_random_numbers)
                .test("vms_are_killed_started_and_rebooted", lifecycle)
                .test("one_that_goes_on_is_rebooted", one_that_goes_on_is_rebooted)
                .test("neighbours_are_known_from_the_beginning", neighbours_are_known)
                .test("a_router_is_advertised", a_router_is_advertised)
                .test("a_fork_is_frozen_and_forked_in_its_turn", frozen_again)
                .test("a_journal_goes_on_without_loss_or_repetition", journal_goes_on)
                .test(format!("a name: with blanks / and {} letters", "x".repeat(300)), has_logs_of_its_own)
                .sequential("deeper", |section| {
                    section
                        .setup(|testnet| testnet.vm("server").succeed("touch /root/deeper").map(drop))
                        .test("a_section_with_a_setup_of_its_own_is_frozen_anew", |testnet| {
                            testnet.vm("server").succeed("test -e /root/deeper").map(drop)
                        })
                })
        })
        .test("the_group_itself_goes_on", the_group_itself_goes_on)
        .test("random_numbers_differ_between_forks", random_numbers_differ)
        .test("a_group_frozen_in_a_test_goes_on", |testnet| {
            let busy = Busy::of(testnet);
            let client = testnet.vm("client");
            let shell = client.succeed("cat /run/counter.pid")?;
            testnet.freeze_settled(Duration::from_secs(1))?;
            busy.goes_on()?;
            ensure!(client.succeed("cat /run/counter.pid")? == shell, "it was started anew");
            journal_goes_on(testnet)
        })
        .main()
}

fn both(testnet: &Group) -> [Vm; 2] {
    ["client", "server"].map(|name| testnet.vm(name))
}

fn breaks_things(testnet: &Group) -> anyhow::Result<()> {
    let server = testnet.vm("server");
    server.succeed("test ! -e /root/broken && test -x /usr/bin/env")?;
    server.succeed("touch /root/broken && sync && rm -rf /usr/bin /etc/systemd")?;
    testnet.put("broken", &true)
}

fn clocks_are_right(testnet: &Group) -> anyhow::Result<()> {
    for vm in both(testnet) {
        // The agent sets it once it has time for it.
        let mut last = String::new();
        let limit = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let before = now()?;
            let shown = vm.succeed("date +%s.%N")?;
            let after = now()?;
            let shown = Duration::from_secs_f64(shown.trim().parse().context("no time")?);
            if shown + CLOCK_TOLERANCE > before && shown < after + CLOCK_TOLERANCE {
                break;
            }
            let new = format!("{}: {shown:?} is not between {before:?} and {after:?}", vm.name());
            ensure!(std::time::Instant::now() < limit, "{last}\n{new}");
            last = new;
        }
    }
    Ok(())
}

fn now() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn draws_random_numbers(testnet: &Group) -> anyhow::Result<()> {
    let client = testnet.vm("client");
    // The agent has it done once it has time for it.
    client.wait_until_succeeds("dmesg | grep 'seeded anew\\|virtual machine fork'")?;
    let drawn = client.succeed("head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid")?;
    Ok(fs_err::write(format!("{}/{RANDOM}", testnet.log_dir()), drawn)?)
}

fn random_numbers_differ(testnet: &Group) -> anyhow::Result<()> {
    let drawn =
        |test: &str| fs_err::read_to_string(format!("{}/forks/forked--{test}/{RANDOM}", testnet.log_dir()));
    let (one, other) = (drawn("one_draws_random_numbers")?, drawn("another_draws_random_numbers")?);
    for (one, other) in one.lines().zip(other.lines()) {
        ensure!(one != other, "two forks drew {one}");
    }
    ensure!(one.lines().count() == 2, "not all was drawn: {one}");
    Ok(())
}

fn lifecycle(testnet: &Group) -> anyhow::Result<()> {
    let (client, server, late) = (testnet.vm("client"), testnet.vm("server"), testnet.vm("late"));
    ensure!(server.status()?.boot == 1, "a fork is in the boot in which it was frozen");
    server.succeed("echo kept >/root/kept && sync")?;
    server.kill()?;
    server.start()?;
    server.wait_for_ssh()?;
    let kept = server.succeed("cat /root/kept /root/set-up")?;
    ensure!(kept.trim() == "kept\nset up", "the disk has lost something: {kept}");
    ensure!(server.status()?.boot == 2, "it was booted anew");
    server.reboot()?;
    server.wait_for_ssh()?;
    late.start()?;
    late.wait_for_ssh()?;
    client.pause()?;
    ensure!(client.status()?.state == VmState::Paused, "it is not paused");
    client.resume()?;
    client.succeed(&format!("ping -6 -c 1 -W 10 {}", late.address()))?;
    let planned = client.plan().second_address.context("the client has a second card")?;
    let has = client.succeed("ip -4 -o addr show dev enp2s0")?;
    ensure!(has.contains(&format!("inet {planned}/")), "its second card has {has}");
    Ok(())
}

/// By its power button: the same process of QEMU, which began frozen, boots.
fn one_that_goes_on_is_rebooted(testnet: &Group) -> anyhow::Result<()> {
    let server = testnet.vm("server");
    server.reboot()?;
    server.wait_for_ssh()?;
    ensure!(server.status()?.boot == 2, "it was booted {} times", server.status()?.boot);
    server.succeed("cat /root/set-up").map(drop)
}

/// Only those that are on.
fn neighbours_are_known(testnet: &Group) -> anyhow::Result<()> {
    let output = std::process::Command::new("ip").args(["-6", "neigh"]).output()?;
    let known = String::from_utf8(output.stdout)?;
    let is_known = |name: &str| {
        let vm = testnet.vm(name);
        let start = format!("{} dev ", vm.address());
        known.lines().any(|line| line.starts_with(&start) && line.contains(&vm.plan().mac.to_string()))
    };
    let found = ["client", "server", "late"].map(is_known);
    ensure!(found == [true, true, false], "the neighbours are:\n{known}");
    Ok(())
}

/// Also to guests that know one.
fn a_router_is_advertised(testnet: &Group) -> anyhow::Result<()> {
    // The connection by which this is asked needs the route, too, and stands still until it is there again.
    let lines = "ip -6 route del default && until ip -6 route show default | grep -q .; do sleep 1; done";
    testnet.vm("client").succeed(lines).map(drop)
}

fn frozen_again(testnet: &Group) -> anyhow::Result<()> {
    let busy = Busy::of(testnet);
    testnet.freeze()?;
    busy.goes_on()?;
    testnet.freeze()?;
    busy.goes_on()?;
    testnet.vm("server").succeed("cat /root/set-up").map(drop)
}

/// Lines are numbered; those of this group's log must be without a gap.
fn journal_goes_on(testnet: &Group) -> anyhow::Result<()> {
    let client = testnet.vm("client");
    let mut counted: u64 = client.succeed("cat /run/count")?.trim().parse().context("no number")?;
    counted += 3;
    client.wait_for_journal(&format!("counted {counted} times"))?;
    let mut numbers = numbers_in_journal(testnet)?;
    // What was read is in the file a little later.
    while numbers.len() < 3 {
        counted += 1;
        client.wait_for_journal(&format!("counted {counted} times"))?;
        numbers = numbers_in_journal(testnet)?;
    }
    for pair in numbers.windows(2) {
        ensure!(pair[1] == pair[0] + 1, "after {} came {}", pair[0], pair[1]);
    }
    Ok(())
}

fn numbers_in_journal(testnet: &Group) -> anyhow::Result<Vec<u64>> {
    // A fork's journal is followed once its guests are at rest, and its file appears with the first line.
    let log = match fs_err::read_to_string(format!("{}/vms/client/journal.log", testnet.log_dir())) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let number = |line: &str| line.split_once("counted ")?.1.strip_suffix(" times")?.parse().ok();
    Ok(log.lines().filter_map(number).collect())
}

fn the_group_itself_goes_on(testnet: &Group) -> anyhow::Result<()> {
    ensure!(testnet.get::<bool>("broken").is_err(), "a value of a fork is seen here");
    testnet.vm("server").succeed("test ! -e /root/broken && cat /root/set-up")?;
    Busy::of(testnet).goes_on()?;
    journal_goes_on(testnet)
}
