//! The same testnet by each engine, by turns: how soon it is there, how soon a VM is killed and started
//! again, and what the group takes in addition to its guests.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use steading_api::{Client, VmVerb};
use steading_group::Origin;
use steading_plan::{Engine, GroupName, Guests, HostFacts, Plan, Testnet};
use steading_vm::engine::{PreparedVm, prepare};
use steading_vm::image::ImageCache;

use crate::group::{Up, bring_up, execute};
use crate::guests::waiter;
use crate::processes::{Taken, children, of_process};
use crate::stats::percentile;

const GUESTS: usize = 3;

/// The engines that run guests.
fn compared() -> impl Iterator<Item = Engine> {
    Engine::ALL.into_iter().filter(|engine| engine.capabilities().guests == Guests::Booted)
}

/// What was measured of one engine, an entry for each run.
#[derive(Default)]
struct Figures {
    up: Vec<Duration>,
    answering: Vec<Duration>,
    kill: Vec<Duration>,
    start: Vec<Duration>,
    answering_again: Vec<Duration>,
    torn_down: Vec<Duration>,
    /// Of the last run: QEMUs, and the group's other processes, with their names.
    guests: Taken,
    beside: Taken,
    names: Vec<String>,
}

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let mut figures = [Figures::default(), Figures::default()];
    println!("{GUESTS} guests, {runs} runs of each engine by turns:");
    // What was never read from the disk would be the first's to read.
    for engine in compared() {
        one(engine, dir, &mut Figures::default())?;
    }
    for _ in 0..runs {
        for (engine, figures) in compared().zip(&mut figures) {
            one(engine, dir, figures)?;
        }
    }
    print(&figures);
    Ok(())
}

fn plan(engine: Engine) -> anyhow::Result<(Plan, Vec<PreparedVm>)> {
    let guest = steading::reference::guest()?;
    let vms = (1..=GUESTS).map(|number| guest.vm(format!("n{number}")));
    let host = HostFacts { engine, ..HostFacts::default() };
    let group: GroupName = "bench-engines".parse()?;
    let plan = Plan::derive(&group, &Testnet::new().vms(vms), &host)?;
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    let vms = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {})).collect::<Result<_, _>>()?;
    Ok((plan, vms))
}

fn one(engine: Engine, dir: &Utf8Path, figures: &mut Figures) -> anyhow::Result<()> {
    let (plan, vms) = plan(engine)?;
    let dir = dir.join(engine.as_str());
    fs::create_dir_all(&dir)?;
    let began = Instant::now();
    let Up { owner, client, runtime } = bring_up(&plan, Origin::Prepared(vms), &dir)?;
    figures.up.push(began.elapsed());
    let looked = runtime.block_on(async {
        let waiter = waiter(&plan)?;
        let wait = || execute(&client, "waiting for journals", waiter.clone());
        wait().await?;
        figures.answering.push(began.elapsed());
        (figures.guests, figures.beside, figures.names) = taken(owner.pid().cast_unsigned())?;
        figures.kill.push(act(&client, VmVerb::Kill).await?);
        let began = Instant::now();
        figures.start.push(act(&client, VmVerb::Start).await?);
        wait().await?;
        figures.answering_again.push(began.elapsed());
        anyhow::Ok(())
    });
    let began = Instant::now();
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    owner.wait()?;
    figures.torn_down.push(began.elapsed());
    looked
}

async fn act(client: &Client, verb: VmVerb) -> anyhow::Result<Duration> {
    let began = Instant::now();
    client.act("n1", verb).await?;
    Ok(began.elapsed())
}

/// What the group's QEMUs take, what all else does, and the names of the latter.
fn taken(owner: u32) -> anyhow::Result<(Taken, Taken, Vec<String>)> {
    let (mut guests, mut beside, mut names) = (Taken::default(), Taken::default(), Vec::new());
    let mut left = vec![owner];
    while let Some(pid) = left.pop() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned();
        left.extend(children(pid)?);
        let own = of_process(pid)?;
        if name.starts_with("vm-") || name.starts_with("qemu-system") {
            guests.add(own);
        } else {
            beside.add(own);
            names.push(if pid == owner { "owner".to_owned() } else { name });
        }
    }
    Ok((guests, beside, names))
}

#[expect(clippy::cast_precision_loss, reason = "sizes of processes")]
fn print(figures: &[Figures; 2]) {
    let [qemu, libvirt] = figures;
    println!("{:<44} {:>10} {:>10} {:>7}", "medians", "qemu", "libvirt", "ratio");
    let time = |what: &str, a: &[Duration], b: &[Duration]| {
        let (a, b) = (percentile(a, 0.5).as_secs_f64(), percentile(b, 0.5).as_secs_f64());
        println!("{what:<44} {a:>8.3} s {b:>8.3} s {:>7.2}", b / a.max(f64::EPSILON));
    };
    time("from nothing to a group with VMs that run", &qemu.up, &libvirt.up);
    time("to all journals answering", &qemu.answering, &libvirt.answering);
    time("kill of one VM", &qemu.kill, &libvirt.kill);
    time("start of it", &qemu.start, &libvirt.start);
    time("to its journal answering", &qemu.answering_again, &libvirt.answering_again);
    time("teardown", &qemu.torn_down, &libvirt.torn_down);
    let size = |what: &str, a: u64, b: u64| {
        let (a, b) = (a as f64 / 1024.0, b as f64 / 1024.0);
        println!("{what:<44} {a:>6.1} MiB {b:>6.1} MiB {:>7.2}", b / a);
    };
    let guests = GUESTS as u64;
    let (a, b) = (qemu.guests.private_kib / guests, libvirt.guests.private_kib / guests);
    size("private memory of a QEMU with its guest", a, b);
    let (a, b) = (qemu.beside.private_kib, libvirt.beside.private_kib);
    size("private memory of all other processes", a, b);
    for (engine, figures) in compared().zip(figures) {
        println!("processes other than QEMU with {engine}: {}", figures.names.join(", "));
    }
}
