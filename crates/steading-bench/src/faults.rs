//! What faults cost between two guests: throughput, round trips, and the owner's time, with rules that
//! concern others, rules that concern them and do next to nothing, and a relay.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::Utf8Path;
use fs_err as fs;
use steading_api::{CommandOutput, FaultRequest, GuestCommand};
use steading_group::Origin;
use steading_plan::{Fault, Plan};

use crate::group::{Up, bring_up, execute};
use crate::guests::{prepare_guests, waiter};
use crate::stats::percentile;

/// The two that speak, and one that the others' rules are about.
const GUESTS: usize = 3;

/// Where the receiver listens.
const PORT: u16 = 5001;

/// How much one measurement sends, in MiB.
const MIB: u32 = 128;

/// How long one measurement may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What is measured, with the faults that are active meanwhile. Those that concern the two who speak do
/// as little as there is to say: what remains is what they cost.
fn cases() -> Vec<(&'static str, Vec<Fault>)> {
    let instant = Duration::from_micros(1);
    vec![
        ("no fault", vec![]),
        ("rule about others (partition n1, n2 from n3)", vec![Fault::partition(&["n1", "n2"], &["n3"])]),
        ("rule about them (loss of 0.001 %)", vec![Fault::loss("n1", 0.001).to("n2")]),
        ("relay about others (delay n3 by 1 µs)", vec![Fault::delay("n3", instant)]),
        ("relay about them (delay n1 by 1 µs)", vec![Fault::delay("n1", instant)]),
    ]
}

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let prepared = prepare_guests(GUESTS)?;
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let up = bring_up(&prepared.plan, Origin::Prepared(prepared.vms), dir)?;
    up.runtime.block_on(execute(&up.client, "waiting for journals", waiter(&prepared.plan)?))?;
    let measured = in_group(&up, &prepared.plan, runs);
    up.runtime.block_on(up.client.tear_down())?;
    let Up { owner, runtime, .. } = up;
    drop(runtime);
    owner.wait()?;
    measured
}

fn in_group(up: &Up, plan: &Plan, runs: usize) -> anyhow::Result<()> {
    let receiver = plan.vms[1].address;
    // It takes one connection after the other, and forgets what comes.
    let listen = format!(
        "systemd-run --unit=sink systemd-socket-activate --listen=[::]:{PORT} --accept --inetd sh -c 'cat >/dev/null'"
    );
    ask(up, "n2", &listen)?;
    let send = format!("head -c {MIB}M /dev/zero >/dev/tcp/{receiver}/{PORT}");
    let send = format!("until bash -c '{send}' 2>/dev/null; do :; done");
    // The first one fills what all others find filled: caches, and code that is translated.
    ask(up, "n1", &send)?;
    println!("from one guest to another, {MIB} MiB each, medians of {runs}:");
    println!("{:<48} {:>9} {:>7} {:>9} {:>12}", "", "Mbit/s", "ratio", "ping ms", "owner CPU s");
    let mut before = None;
    for (what, faults) in cases() {
        for fault in faults {
            up.runtime.block_on(up.client.begin_fault(&FaultRequest { fault, pid: None }))?;
        }
        let (mut transfers, mut pings) = (Vec::new(), Vec::new());
        let busy = cpu_seconds(up.owner.pid())?;
        for _ in 0..runs {
            let began = Instant::now();
            ask(up, "n1", &send)?;
            transfers.push(began.elapsed());
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few runs")]
        let busy = (cpu_seconds(up.owner.pid())? - busy) / runs as f64;
        for _ in 0..runs {
            pings.push(ping(&ask(up, "n1", &format!("ping -q -c 100 -i 0.01 {receiver}"))?)?);
        }
        up.runtime.block_on(up.client.undo_faults())?;
        let rate = f64::from(MIB) * 8.0 * 1.048_576 / percentile(&transfers, 0.5).as_secs_f64();
        let ratio = rate / *before.get_or_insert(rate);
        let ping = percentile(&pings, 0.5).as_secs_f64() * 1000.0;
        println!("{what:<48} {rate:>9.0} {ratio:>7.2} {ping:>9.3} {busy:>12.2}");
    }
    Ok(())
}

/// Has a guest's agent run a command, which must succeed.
fn ask(up: &Up, vm: &str, line: &str) -> anyhow::Result<CommandOutput> {
    let limit_ms = u64::try_from(LIMIT.as_millis())?;
    let command = GuestCommand { line: line.to_owned(), limit_ms };
    let output = up.runtime.block_on(up.client.agent(vm, &command))?;
    ensure!(output.status == 0, "`{line}` in {vm}: status {}, {}", output.status, output.stderr);
    Ok(output)
}

/// The mean round trip.
fn ping(output: &CommandOutput) -> anyhow::Result<Duration> {
    let line = output.stdout.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let mean = line.and_then(|times| times.split('/').nth(1)).and_then(|time| time.parse::<f64>().ok());
    mean.map(|ms| Duration::from_secs_f64(ms / 1000.0))
        .with_context(|| format!("no round trip in {}", output.stdout))
}

/// What a process has used (proc_pid_stat(5): utime and stime, in clock ticks).
fn cpu_seconds(pid: i32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(") ").context("no name in stat")?.1;
    let ticks: u32 =
        behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(per_second))
}
