//! How long an empty group takes to come and to go.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use steading_api::{Client, ProcessEvent, ProcessSpec, Streams};
use steading_group::{Admission, GroupConfig, Isolation, Origin, Owner};
use steading_plan::{HostFacts, Plan, Testnet};
use tokio::runtime::Runtime;

use crate::stats::row;

/// How long the kernel may take to remove the bridge of a group that has ended. It does so in the
/// background, some 60 ms for each, and meanwhile nobody gets a network namespace or an interface.
const REST: Duration = Duration::from_millis(300);

pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let host = HostFacts::default();
    let plan = Plan::derive(&"bench-group".parse()?, &Testnet::new(), &host)?;
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    // The first one pays for reading programs from the disk.
    one(&plan, dir)?;
    for (rest, label) in [(REST, "on a machine at rest"), (Duration::ZERO, "right after another")] {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            std::thread::sleep(rest);
            let (came, went) = one(&plan, dir)?;
            up.push(came);
            down.push(went);
        }
        println!("empty group, {label}:");
        println!("{}", row("  up", &up));
        println!("{}", row("  torn down", &down));
    }
    Ok(())
}

/// A group that is up, and what is needed to ask it.
pub(crate) struct Up {
    pub(crate) owner: Owner,
    pub(crate) client: Client,
    /// It has no thread of its own, so the next group finds this process with one thread again.
    pub(crate) runtime: Runtime,
}

/// Brings a group up, with its files in this directory.
pub(crate) fn bring_up(plan: &Plan, origin: Origin, dir: &Utf8Path) -> anyhow::Result<Up> {
    let mut owner = steading_group::spawn(GroupConfig {
        plan: plan.clone(),
        origin,
        files: Vec::new(),
        log_dir: dir.to_owned(),
        scratch: dir.to_owned(),
        admission: Admission::default(),
        isolation: Isolation::default(),
    })?;
    owner.wait_until_ready()?;
    let client = Client::new(owner.socket_path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Up { owner, client, runtime })
}

/// Runs a program inside the group; it must succeed.
pub(crate) async fn execute(client: &Client, name: &str, argv: Vec<String>) -> anyhow::Result<()> {
    let spec = ProcessSpec { name: name.to_owned(), argv, env: Vec::new(), streams: Streams::Lines };
    let mut events = client.start_process(&spec).await?;
    let mut said = Vec::new();
    while let Some(event) = events.next().await? {
        match event {
            ProcessEvent::Line { text } => said.push(text),
            ProcessEvent::Ended { status: Some(0), .. } => return Ok(()),
            ProcessEvent::Ended { .. } => break,
            ProcessEvent::Started { .. } | ProcessEvent::Output { .. } | ProcessEvent::Note { .. } => {}
        }
    }
    anyhow::bail!("{name} failed: {}", said.join("; "))
}

fn one(plan: &Plan, dir: &Utf8Path) -> anyhow::Result<(Duration, Duration)> {
    let began = Instant::now();
    let Up { owner, client, runtime } = bring_up(plan, Origin::Prepared(Vec::new()), dir)?;
    // It is up when it answers, not when it says so.
    runtime.block_on(client.status())?;
    let up = began.elapsed();
    let began = Instant::now();
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    let status = owner.wait()?;
    anyhow::ensure!(status == Some(0), "the owner ended with status {status:?}");
    Ok((up, began.elapsed()))
}
