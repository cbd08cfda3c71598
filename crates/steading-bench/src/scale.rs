//! How a driver scales with the number of its VMs: simulated machines, which cost nothing themselves.
//!
//! A driver is a runner and the owner of its group, as `up` leaves them. The machines are those of
//! `--engine simulated`, so what grows is Steading's own: tasks, logs, the control API, the terminal.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::Utf8Path;
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use steading::{Suite, Testnet};
use steading_api::{Client, ConsoleFrom, ConsoleWait, socket_path};
use steading_harness::broker::BrokerOptions;
use steading_harness::{EngineArgs, UpArgs};
use steading_plan::{Boot, Engine, VmSpec};
use steading_report::Report;

use crate::processes::children;

/// How many machines a group has.
const COUNTS: [usize; 4] = [1, 10, 100, 500];

/// How long a group may take to come up.
const LIMIT: Duration = Duration::from_secs(300);

/// How often the group is looked for until it is there.
const LOOK: Duration = Duration::from_millis(2);

/// What was measured of one group.
struct Measured {
    up: Duration,
    down: Duration,
    /// The most that runner and owner had in memory, in KiB (`VmHWM`, proc_pid_status(5)).
    runner_kib: u64,
    owner_kib: u64,
}

/// Is a driver, and stays until it is interrupted.
pub(crate) fn driver(name: &str, out: &Utf8Path, count: usize) -> anyhow::Result<()> {
    let script = out.join("script");
    fs::create_dir_all(out)?;
    fs::write(&script, "no script: a machine that boots without incident")?;
    let suite = Suite::new(name).testnet(move || {
        let boot = || Boot::Kernel { kernel: script.clone(), initrd: None, cmdline: String::new() };
        Ok(Testnet::new().vms((1..=count).map(|number| VmSpec::new(format!("n{number}"), boot()))))
    });
    let engine = EngineArgs { engine: Engine::Simulated };
    let args =
        UpArgs { out: Some(out.to_owned()), engine, broker: BrokerOptions::off(), ..UpArgs::default() };
    let status = suite.up(args, &Report::silent());
    ensure!(status == 0, "it ended with status {status}");
    Ok(())
}

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    println!("simulated machines in one group, medians of {runs} runs:");
    println!(
        "{:>8} {:>10} {:>14} {:>10} {:>12} {:>12} {:>12}",
        "machines", "up", "each", "down", "runner", "owner", "both"
    );
    for count in COUNTS {
        let mut measured = Vec::new();
        for _ in 0..runs {
            measured.push(one(count)?);
        }
        print(count, &measured);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of machines, and sizes of processes")]
fn print(count: usize, measured: &[Measured]) {
    let median = |of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (up, down) = (median(|one| one.up.as_secs_f64()), median(|one| one.down.as_secs_f64()));
    let mib = |kib: f64| kib / 1024.0;
    let runner = mib(median(|one| one.runner_kib as f64));
    let owner = mib(median(|one| one.owner_kib as f64));
    println!(
        "{count:>8} {:>7.0} ms {:>11.2} ms {:>7.0} ms {runner:>8.1} MiB {owner:>8.1} MiB {:>8.1} MiB",
        up * 1000.0,
        up * 1000.0 / count as f64,
        down * 1000.0,
        runner + owner
    );
}

fn one(count: usize) -> anyhow::Result<Measured> {
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let name = format!("scale-{}-{count}", std::process::id());
    let began = Instant::now();
    let mut runner = Command::new(std::env::current_exe()?)
        .args(["scaled", &name, dir.join("out").as_str(), &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let looked = look(&mut runner, began, count);
    let began = Instant::now();
    kill_process(Pid::from_child(&runner), Signal::INT)?;
    runner.wait()?;
    let down = began.elapsed();
    let (up, runner_kib, owner_kib) = looked?;
    Ok(Measured { up, down, runner_kib, owner_kib })
}

/// Waits until all machines have a prompt: how long that took, and what runner and owner took of memory.
fn look(runner: &mut Child, began: Instant, count: usize) -> anyhow::Result<(Duration, u64, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (owner, up) = runtime.block_on(async {
        let owner = async {
            let mut interval = tokio::time::interval(LOOK);
            loop {
                interval.tick().await;
                for child in children(runner.id())? {
                    let client = Client::new(socket_path(child.cast_signed()));
                    if client.status().await.is_ok_and(|status| status.vms.iter().all(|vm| vm.boot > 0)) {
                        return anyhow::Ok((child, client));
                    }
                }
                ensure!(runner.try_wait()?.is_none(), "the driver has ended");
            }
        };
        let (owner, client) = tokio::time::timeout(LIMIT, owner).await.context("no group comes up")??;
        let wait = ConsoleWait {
            pattern: "login:".to_owned(),
            from: ConsoleFrom::Start,
            limit_ms: u64::try_from(LIMIT.as_millis())?,
        };
        for number in 1..=count {
            client.wait_for_console(&format!("n{number}"), &wait).await?;
        }
        anyhow::Ok((owner, began.elapsed()))
    })?;
    Ok((up, high_water(runner.id())?, high_water(owner)?))
}

/// In KiB.
fn high_water(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no such line in status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
