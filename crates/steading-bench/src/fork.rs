//! Freezing, forking and warm starts, next to booting the same again.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_api::{Client, FreezeRequest, GuestCommand, VmState};
use steading_group::{Admission, Clock, FrozenGroup, GroupConfig, Isolation, OpenedGroup, Origin, Owner};
use steading_plan::{HostFacts, Plan, Testnet};
use steading_vm::engine::{PreparedVm, prepare};
use steading_vm::image::ImageCache;

use crate::boot::answers;
use crate::group::{Up, bring_up, execute};
use crate::guests::waiter;
use crate::stats::percentile;

/// The members of the cluster.
const MEMBERS: usize = 3;

/// How many forks are made of each cluster, with each kind of clock.
const FORKS: usize = 3;

/// The kinds.
const CLOCKS: [Clock; 2] = [Clock::Host, Clock::Still];

/// How many forks of one VM are made at once.
const AT_ONCE: usize = 8;

/// etcd's port for clients, which also says how the member does.
const ETCD: u16 = 2379;

/// How long guests may take to boot, and a cluster to form.
const LIMIT: Duration = Duration::from_secs(300);

/// How long guests may take to come to rest before they are frozen.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let measured = measure_in(runs, path);
    measured.map_err(|error| error.context(format!("the groups' logs are kept in {}", dir.keep().display())))
}

fn measure_in(runs: usize, dir: &Utf8Path) -> anyhow::Result<()> {
    let (mut cold, mut forks) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (plan, prepared) = guests("bench-fork", MEMBERS)?;
    for _ in 0..runs {
        let (booted, frozen) = cluster(&plan, &prepared, dir)?;
        cold.push(booted);
        // What a cluster was about to do, all its forks do: so there are forks of several.
        for _ in 0..FORKS {
            for (clock, times) in CLOCKS.into_iter().zip(&mut forks) {
                times.push(fork(&frozen, clock, dir)?);
            }
        }
    }
    let at = |share| percentile(&cold, share).as_secs_f64();
    println!(
        "{MEMBERS} etcd VMs to all healthy: cold boot, median of {runs} {:.2} s ({:.1} to {:.1} s)",
        at(0.5),
        at(0.0),
        at(1.0)
    );
    let cold = at(0.5);
    for (clock, times) in CLOCKS.into_iter().zip(&forks) {
        let what = match clock {
            Clock::Host => "its guests' clocks set",
            Clock::Still => "its guests' clocks left",
        };
        let at = |share| percentile(times, share).as_secs_f64();
        let fork = at(0.5);
        println!(
            "  fork, {what}: median of {} {fork:.3} s ({:.2} to {:.2} s), ratio {:.1}",
            times.len(),
            at(0.0),
            at(1.0),
            cold / fork
        );
    }
    many(dir)?;
    warm(runs, dir)
}

/// How long a fork takes until the cluster is healthy.
fn fork(frozen: &Frozen, clock: Clock, dir: &Utf8Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let up = go_on(frozen, clock, dir)?;
    wait_until_healthy(&up, &frozen.plan)?;
    let took = began.elapsed();
    end(up)?;
    Ok(took)
}

/// A group that was frozen, held open by this process.
struct Frozen {
    plan: Plan,
    description: FrozenGroup,
    files: Utf8PathBuf,
    /// Holds the files.
    up: Option<Up>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(up) = self.up.take() {
            // The benchmark has its figures by now.
            let _ = end(up);
        }
    }
}

/// Boots the cluster, and freezes it.
fn cluster(plan: &Plan, prepared: &[PreparedVm], dir: &Utf8Path) -> anyhow::Result<(Duration, Frozen)> {
    let began = Instant::now();
    let up = boot(plan, prepared, dir)?;
    up.runtime.block_on(form(&up.client, plan))?;
    wait_until_healthy(&up, plan)?;
    let took = began.elapsed();
    Ok((took, freeze(plan.clone(), up)?))
}

fn guests(group: &str, count: usize) -> anyhow::Result<(Plan, Vec<PreparedVm>)> {
    let guest = steading::reference::guest()?;
    let vms = (1..=count).map(|number| guest.vm(format!("n{number}")));
    let host = HostFacts::default();
    let plan = Plan::derive(&group.parse()?, &Testnet::new().vms(vms), &host)?;
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    let prepared = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {})).collect::<Result<_, _>>()?;
    Ok((plan, prepared))
}

fn boot(plan: &Plan, prepared: &[PreparedVm], dir: &Utf8Path) -> anyhow::Result<Up> {
    bring_up(plan, Origin::Prepared(prepared.to_vec()), dir)
}

fn go_on(frozen: &Frozen, clock: Clock, dir: &Utf8Path) -> anyhow::Result<Up> {
    let opened = OpenedGroup::open(frozen.description.clone(), &frozen.files)?;
    bring_up(&frozen.plan, Origin::Frozen(Box::new(opened), clock), dir)
}

fn end(up: Up) -> anyhow::Result<()> {
    let Up { owner, client, runtime } = up;
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    owner.wait()?;
    Ok(())
}

/// Freezes the group at rest, as a test program does; it stays paused from then on. Returns how long that took.
fn freeze(plan: Plan, up: Up) -> anyhow::Result<Frozen> {
    let request = FreezeRequest { stay: true, ..FreezeRequest::default() }.settled_within(SETTLE_LIMIT);
    let freeze = up.runtime.block_on(up.client.freeze(&request))?;
    let (count, mib) = (plan.vms.len(), plan.vms[0].spec.memory_mib);
    #[expect(clippy::cast_precision_loss, reason = "to one decimal")]
    let kept = freeze.bytes as f64 / f64::from(1 << 20);
    println!("freeze of {count} VMs of {mib} MiB: {:.3} s, {kept:.1} MiB kept", freeze.kept_seconds);
    let description = up.runtime.block_on(up.client.frozen(&freeze.id))?;
    let files = Utf8PathBuf::from(format!("/proc/{}/fd", up.owner.pid()));
    Ok(Frozen { plan, description: serde_json::from_value(description)?, files, up: Some(up) })
}

/// Configures and starts etcd in all guests, by their agents, once those answer.
async fn form(client: &Client, plan: &Plan) -> anyhow::Result<()> {
    let url = |address: Ipv6Addr, port: u16| format!("http://[{address}]:{port}");
    let peers: Vec<String> =
        plan.vms.iter().map(|vm| format!("{}={}", vm.name, url(vm.address, 2380))).collect();
    let peers = peers.join(",");
    let starting = plan.vms.iter().map(async |vm| {
        let (peer, own) = (url(vm.address, 2380), url(vm.address, ETCD));
        // The agent may answer before the guest has its address, and then etcd would not start.
        let (peers_at, clients_at) = (url(Ipv6Addr::UNSPECIFIED, 2380), url(Ipv6Addr::UNSPECIFIED, ETCD));
        // Guests under emulation answer late; etcd's defaults would hold elections all the time.
        let settings = format!(
            "ETCD_NAME={}\nETCD_LISTEN_PEER_URLS={peers_at}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n\
             ETCD_LISTEN_CLIENT_URLS={clients_at}\nETCD_ADVERTISE_CLIENT_URLS={own}\nETCD_INITIAL_CLUSTER={peers}\n\
             ETCD_HEARTBEAT_INTERVAL=500\nETCD_ELECTION_TIMEOUT=5000\n",
            vm.name
        );
        // On a busy machine it is asked twice, and the second time must not disturb what the first has started.
        let line = format!(
            "cat >/etc/etcd.new <<'END'\n{settings}END\nmv /etc/etcd.new /etc/default/etcd\n\
             systemctl start --no-block etcd"
        );
        ask_agent(client, vm.name.as_str(), line).await
    });
    for outcome in futures::future::join_all(starting).await {
        outcome?;
    }
    Ok(())
}

async fn ask_agent(client: &Client, vm: &str, line: String) -> anyhow::Result<()> {
    let command = GuestCommand { line, limit_ms: 30_000 };
    let asked = async {
        loop {
            // Before its agent runs, a guest does not answer.
            if let Ok(output) = client.agent(vm, &command).await {
                ensure!(output.status == 0, "in {vm}: {}", output.stderr);
                return Ok(());
            }
        }
    };
    tokio::time::timeout(LIMIT, asked).await.with_context(|| format!("the agent of {vm} does not answer"))?
}

fn wait_until_healthy(up: &Up, plan: &Plan) -> anyhow::Result<()> {
    let me = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let addresses = plan.vms.iter().map(|vm| vm.address.to_string());
    let argv = [me.into_string(), "wait-for-etcd".to_owned()].into_iter().chain(addresses).collect();
    up.runtime.block_on(execute(&up.client, "waiting for etcd", argv))
}

/// Waits until all members say that they are healthy.
pub(crate) fn wait_for_etcd(addresses: &[Ipv6Addr]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let all = addresses.iter().map(|address| answers(SocketAddr::from((*address, ETCD)), "/health"));
        let all = futures::future::join_all(all);
        tokio::time::timeout(LIMIT, all).await.map(drop).context("not all members are healthy")
    })
}

/// Forks of one VM, all at once.
fn many(dir: &Utf8Path) -> anyhow::Result<()> {
    let (plan, prepared) = guests("bench-one", 1)?;
    let up = boot(&plan, &prepared, dir)?;
    up.runtime.block_on(execute(&up.client, "waiting for its journal", waiter(&plan)?))?;
    let frozen = freeze(plan, up)?;
    let began = Instant::now();
    let mut owners: Vec<Owner> = Vec::new();
    for _ in 0..AT_ONCE {
        let opened = OpenedGroup::open(frozen.description.clone(), &frozen.files)?;
        owners.push(steading_group::spawn(GroupConfig {
            plan: frozen.plan.clone(),
            origin: Origin::Frozen(Box::new(opened), Clock::Host),
            files: Vec::new(),
            log_dir: dir.to_owned(),
            scratch: dir.to_owned(),
            admission: Admission::default(),
            isolation: Isolation::default(),
        })?);
    }
    owners.iter_mut().try_for_each(Owner::wait_until_ready)?;
    let running = began.elapsed().as_secs_f64();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let argv = waiter(&frozen.plan)?;
    let clients: Vec<Client> = owners.iter().map(|owner| Client::new(owner.socket_path())).collect();
    let waiting = clients.iter().map(|client| execute(client, "waiting for its journal", argv.clone()));
    for outcome in runtime.block_on(futures::future::join_all(waiting)) {
        outcome?;
    }
    let answering = began.elapsed().as_secs_f64();
    let mut private: Vec<u64> =
        owners.iter().map(|owner| private_mib(owner.pid())).collect::<Result<_, _>>()?;
    private.sort_unstable();
    let median = private.get(private.len() / 2).copied().unwrap_or_default();
    println!(
        "{AT_ONCE} forks of one VM at once: all running {running:.2} s, all answering {answering:.2} s, \
         private memory of each {median} MiB (median; {private:?})"
    );
    for client in &clients {
        runtime.block_on(client.tear_down())?;
    }
    drop(runtime);
    owners.into_iter().try_for_each(|owner| owner.wait().map(drop))?;
    Ok(())
}

/// What the QEMU process of a group with one VM has for itself alone (`smaps_rollup`,
/// proc_pid_smaps(5)).
fn private_mib(owner: i32) -> anyhow::Result<u64> {
    let children = fs::read_to_string(format!("/proc/{owner}/task/{owner}/children"))?;
    for child in children.split_ascii_whitespace() {
        let name = fs::read_to_string(format!("/proc/{child}/comm"))?;
        if !name.starts_with("vm-") {
            continue;
        }
        let rollup = fs::read_to_string(format!("/proc/{child}/smaps_rollup"))?;
        let of = |key: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        };
        let kib = of("Private_Dirty:").zip(of("Private_Clean:")).context("no private memory is told")?;
        return Ok((kib.0 + kib.1) / 1024);
    }
    anyhow::bail!("the group of owner {owner} has no VM that runs")
}

/// Programs that begin with the same testnet: the first boots it, the second goes on from there.
fn warm(runs: usize, dir: &Utf8Path) -> anyhow::Result<()> {
    let (plan, prepared) = guests("bench-warm", MEMBERS)?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let began = Instant::now();
        let up = boot(&plan, &prepared, dir)?;
        up.runtime.block_on(execute(&up.client, "waiting for journals", waiter(&plan)?))?;
        cold.push(began.elapsed());
        let entry = dir.join(format!("entry-{run}"));
        fs::create_dir(&entry)?;
        fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let stored = Instant::now();
        let frozen = freeze_running(&plan, &up)?;
        steading_group::stored::write_directory(&frozen, &entry, |_| true)?;
        let stored = stored.elapsed().as_secs_f64();
        drop(frozen);
        end(up)?;

        let began = Instant::now();
        let opened = steading_group::stored::open_directory(&entry)?;
        let checked = began.elapsed().as_secs_f64();
        let up = bring_up(&plan, Origin::Frozen(Box::new(opened), Clock::Host), dir)?;
        let states = up.runtime.block_on(up.client.status())?.vms;
        ensure!(states.iter().all(|vm| vm.state == VmState::Running), "not all VMs go on");
        up.runtime.block_on(execute(&up.client, "waiting for journals", waiter(&plan)?))?;
        warm.push(began.elapsed());
        end(up)?;
        println!("  warm start {run}: kept in {stored:.2} s, checked in {checked:.2} s");
        fs::remove_dir_all(&entry)?;
    }
    let (cold, warm) = (percentile(&cold, 0.5).as_secs_f64(), percentile(&warm, 0.5).as_secs_f64());
    println!(
        "{MEMBERS} VMs to all answering, medians of {runs}: cold start {cold:.2} s, warm start {warm:.3} s, ratio {:.1}",
        cold / warm
    );
    Ok(())
}

fn freeze_running(plan: &Plan, up: &Up) -> anyhow::Result<OpenedGroup> {
    let request = FreezeRequest::default().settled_within(SETTLE_LIMIT);
    let freeze = up.runtime.block_on(up.client.freeze(&request))?;
    let description: FrozenGroup =
        serde_json::from_value(up.runtime.block_on(up.client.frozen(&freeze.id))?)?;
    ensure!(description.plan == *plan, "another plan was kept");
    Ok(OpenedGroup::open(description, &Utf8PathBuf::from(format!("/proc/{}/fd", up.owner.pid())))?)
}
