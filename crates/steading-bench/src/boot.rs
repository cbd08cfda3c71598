//! How long four guests take from the program's start to all journals answering, next to a plain
//! shell script that starts the very same QEMU command lines on a bridge made by hand.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use steading_group::Origin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::group::{Up, bring_up, execute};
use crate::guests::{Prepared, prepare_guests, waiter};
use crate::script;
use crate::stats::percentile;

const GUESTS: usize = 4;

/// The port of systemd-journal-gatewayd(8).
const GATEWAYD: u16 = 19531;

/// How long one attempt may take, and how long guests may take in all.
const ATTEMPT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let prepared = prepare_guests(GUESTS)?;
    measure_disks(&prepared)?;
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    println!("{GUESTS} guests, from the program's start to all journals answering:");
    for run in 1..=runs {
        let steading = by_steading(&prepared, dir)?;
        let shell = script::run(&prepared, dir)?;
        let (a, b) = (steading.as_secs_f64(), shell.as_secs_f64());
        println!("run {run}: steading {a:.2} s, shell script {b:.2} s, ratio {:.3}", a / b);
        ours.push(steading);
        theirs.push(shell);
    }
    let (a, b) = (percentile(&ours, 0.5).as_secs_f64(), percentile(&theirs, 0.5).as_secs_f64());
    println!("medians: steading {a:.2} s, shell script {b:.2} s, ratio {:.3}", a / b);
    Ok(())
}

/// Eight VMs' disks, once the image is unpacked: looking it up, opening it, making overlays.
fn measure_disks(prepared: &Prepared) -> anyhow::Result<()> {
    const VMS: usize = 8;
    let disk = prepared.plan.vms[0].spec.disk.clone().context("the reference guest has a disk")?;
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let began = Instant::now();
    let mut open = Vec::new();
    for _ in 0..VMS {
        let image = prepared.cache.prepare(&disk.path, disk.sha256, &mut |_| {})?;
        open.push((image.open()?, image.overlay(dir, None)?));
    }
    println!("disks of {VMS} VMs, image unpacked before: {:.2} ms", began.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

fn by_steading(prepared: &Prepared, dir: &Utf8Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let Up { owner, client, runtime } =
        bring_up(&prepared.plan, Origin::Prepared(prepared.vms.clone()), dir)?;
    let argv = waiter(&prepared.plan)?;
    let waited = runtime.block_on(execute(&client, "waiting for journals", argv));
    let took = began.elapsed();
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    owner.wait()?;
    waited.map(|()| took)
}

/// Waits until all journals answer.
pub(crate) fn wait_for_journals(addresses: &[Ipv6Addr]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let all = addresses.iter().map(|address| answers((*address, GATEWAYD).into(), "/machine"));
        let all = futures::future::join_all(all);
        tokio::time::timeout(LIMIT, all).await.map(drop).context("not all journals answer")
    })
}

/// Waits until the server answers a request for this path with success.
pub(crate) async fn answers(server: SocketAddr, path: &str) {
    let mut interval = tokio::time::interval(Duration::from_millis(50));
    loop {
        interval.tick().await;
        if let Ok(Ok(true)) = tokio::time::timeout(ATTEMPT * 4, ask(server, path)).await {
            return;
        }
    }
}

async fn ask(server: SocketAddr, path: &str) -> std::io::Result<bool> {
    let connect = tokio::time::timeout(ATTEMPT, TcpStream::connect(server));
    let mut stream = connect.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let request = format!("GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(&answer[9..] == b"200")
}
