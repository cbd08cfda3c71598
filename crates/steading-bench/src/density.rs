//! How many idle guests fit on a machine: what each takes, and what its driver does.
//!
//! Each guest has a group and a driver of its own, as if each were another test: a runner and an owner,
//! as `up` leaves them. What is printed was measured, but for the last lines, which say that they are
//! computed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::Utf8Path;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use steading::{Suite, Testnet};
use steading_harness::UpArgs;
use steading_harness::broker::BrokerOptions;
use steading_report::Report;

use crate::processes::{Taken, children, of_process};

const MEMORY_MIB: u32 = 256;

/// A driver and its group.
struct Group {
    runner: Child,
    name: String,
}

/// What a group's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Runner,
    Owner,
    Dnsmasq,
    Qemu,
}

/// Is a driver, and stays until it is interrupted.
pub(crate) fn idle(name: &str, out: &Utf8Path) -> anyhow::Result<()> {
    let suite = Suite::new(name)
        .testnet(|| Ok(Testnet::new().vm(steading::reference::guest()?.vm("n1").memory_mib(MEMORY_MIB))));
    let args = UpArgs { out: Some(out.to_owned()), broker: BrokerOptions::off(), ..UpArgs::default() };
    let status = suite.up(args, &Report::silent());
    ensure!(status == 0, "it ended with status {status}");
    Ok(())
}

pub(crate) fn measure(guests: usize, settle: u64, window: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let program = std::env::current_exe()?;
    let (available_before, total) = (meminfo("MemAvailable:")?, meminfo("MemTotal:")?);
    let mut groups: Vec<Group> = Vec::new();
    for number in 1..=guests {
        let name = format!("density-{}-{number}", std::process::id());
        let runner = Command::new(&program)
            .args(["idle", &name, dir.join(&name).as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        groups.push(Group { runner, name });
    }
    let outcome = look(&mut groups, &program, settle, window);
    for group in &mut groups {
        let pid = Pid::from_child(&group.runner);
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
    for group in &mut groups {
        group.runner.wait()?;
    }
    let (parts, seconds, available) = outcome?;
    print(&parts, guests, seconds, (total, available_before, available))
}

type Parts = BTreeMap<Part, Taken>;

/// Waits until all guests are idle, and measures for a while. The sums over all groups, how long that
/// was, and the memory that is available meanwhile.
fn look(
    groups: &mut [Group],
    program: &std::path::Path,
    settle: u64,
    window: u64,
) -> anyhow::Result<(Parts, f64, u64)> {
    for group in groups.iter_mut() {
        wait_for_guest(program, group)?;
    }
    rest(groups, settle)?;
    let before = taken(groups)?;
    let began = Instant::now();
    rest(groups, window)?;
    let seconds = began.elapsed().as_secs_f64();
    let mut after = taken(groups)?;
    for (part, taken) in &mut after {
        let earlier = before.get(part).map_or(0, |taken| taken.cpu_ticks);
        taken.cpu_ticks = taken.cpu_ticks.saturating_sub(earlier);
    }
    Ok((after, seconds, meminfo("MemAvailable:")?))
}

/// The owner may not be there yet, and then the guest is not up.
fn wait_for_guest(program: &std::path::Path, group: &mut Group) -> anyhow::Result<()> {
    let limit = Instant::now() + Duration::from_secs(300);
    loop {
        let status = Command::new(program)
            .args(["live", &group.name, "wait", "n1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() {
            return Ok(());
        }
        ensure!(Instant::now() < limit, "the guest of {} does not come up", group.name);
        rest(std::slice::from_mut(group), 1)?;
    }
}

/// Lets time pass, unless a driver ends.
fn rest(groups: &mut [Group], seconds: u64) -> anyhow::Result<()> {
    let pidfds = groups
        .iter()
        .map(|group| rustix::process::pidfd_open(Pid::from_child(&group.runner), PidfdFlags::empty()));
    let pidfds = pidfds.collect::<Result<Vec<_>, _>>()?;
    let mut fds: Vec<_> = pidfds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let limit = Timespec::try_from(Duration::from_secs(seconds))?;
    ensure!(poll(&mut fds, Some(&limit))? == 0, "a driver has ended");
    Ok(())
}

fn taken(groups: &[Group]) -> anyhow::Result<Parts> {
    let mut parts = Parts::new();
    for group in groups {
        let runner = group.runner.id();
        let mut left = vec![(runner, Part::Runner)];
        while let Some((pid, part)) = left.pop() {
            let own = of_process(pid).with_context(|| format!("{}: process {pid}", group.name))?;
            parts.entry(part).or_default().add(own);
            for child in children(pid)? {
                let name = fs::read_to_string(format!("/proc/{child}/comm"))?;
                let part = match name.trim() {
                    "dnsmasq" => Part::Dnsmasq,
                    name if name.starts_with("vm-") => Part::Qemu,
                    _ => Part::Owner,
                };
                left.push((child, part));
            }
        }
    }
    Ok(parts)
}

/// In KiB.
fn meminfo(key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).context("no such line in meminfo")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of machines")]
fn print(parts: &Parts, guests: usize, seconds: f64, memory: (u64, u64, u64)) -> anyhow::Result<()> {
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    let count = guests as f64;
    let mib = |kib: u64| kib as f64 / 1024.0 / count;
    let percent = |ticks: u64| ticks as f64 / hertz / seconds / count * 100.0;
    println!(
        "{guests} groups of one idle guest with {MEMORY_MIB} MiB each; measured for {seconds:.0} s; for each group:"
    );
    println!("{:<26} {:>10} {:>12} {:>14}", "", "PSS", "private", "of a core");
    let row = |what: &str, taken: Taken| {
        println!(
            "{what:<26} {:>6.1} MiB {:>8.1} MiB {:>12.2} %",
            mib(taken.pss_kib),
            mib(taken.private_kib),
            percent(taken.cpu_ticks)
        );
    };
    let of = |part: Part| parts.get(&part).copied().unwrap_or_default();
    let names = [
        (Part::Runner, "runner"),
        (Part::Owner, "owner"),
        (Part::Dnsmasq, "dnsmasq"),
        (Part::Qemu, "QEMU, with its guest"),
    ];
    for (part, name) in names {
        row(name, of(part));
    }
    let (runner, owner) = (of(Part::Runner), of(Part::Owner));
    let mut driver = runner;
    driver.add(owner);
    row("the driver: both", driver);
    let (total, before, after) = memory;
    let each = mib(parts.values().map(|taken| taken.pss_kib).sum());
    let gone = mib(before.saturating_sub(after));
    println!(
        "a group in all: {each:.1} MiB of PSS; {gone:.1} MiB less are available, the kernel's part included,"
    );
    println!("and whatever other programs took or gave back meanwhile");
    let (total, before) = (total as f64 / 1024.0, before as f64 / 1024.0);
    let fit = (before / each.max(0.1)).floor();
    println!(
        "computed, not measured: {fit:.0} such groups fit into the {before:.0} MiB that were available, of {total:.0}"
    );
    let all: u64 = parts.values().map(|taken| taken.cpu_ticks).sum();
    let cpus = std::thread::available_parallelism()?.get() as f64;
    println!(
        "computed, not measured: {:.0} of them keep {cpus} CPUs wholly busy",
        cpus * 100.0 / percent(all).max(0.01)
    );
    Ok(())
}
