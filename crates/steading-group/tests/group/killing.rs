//! `SIGKILL` at every stage: within a second nothing is left.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use steading_plan::Testnet;

use crate::CASE;
use crate::fixture::{Group, check, config, panicking, say};

/// How long the kernel may take to end everything.
const LIMIT: Duration = Duration::from_secs(1);

/// How many groups are killed at random moments.
const ROUNDS: u64 = 20;

/// Random moments lie between the start and a little after readiness.
const LATEST: Duration = Duration::from_millis(30);

pub(crate) fn a_killed_owner_leaves_nothing() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let namespace = namespace_of(group.owner.pid())?;
    check(members(&namespace).len() >= 2, || "the owner and its router daemon are not seen".to_owned())?;
    group.owner.kill();
    group.owner.wait()?;
    nothing_is_left(&namespace)?;
    only_logs_are_left(group.dir.path())
}

pub(crate) fn a_runner_killed_when_ready_leaves_nothing() -> Result<(), Failed> {
    kill_victim("ready", None)
}

pub(crate) fn a_runner_killed_with_vms_running_leaves_nothing() -> Result<(), Failed> {
    kill_victim("vms", None)
}

pub(crate) fn a_runner_killed_at_any_moment_leaves_nothing() -> Result<(), Failed> {
    let given = std::env::var("STEADING_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut seed: u64 = given.unwrap_or(now.as_secs());
    say(&format!("STEADING_SEED={seed}"));
    for round in 0..ROUNDS {
        // A linear congruential generator (Knuth's MMIX): the same seed gives the same moments.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = LATEST.mul_f64(f64::from(u32::try_from(seed >> 32)?) / f64::from(u32::MAX));
        let killed = kill_victim("spawned", Some(delay));
        killed.map_err(|failed| {
            format!("round {round}, after {delay:?}: {}", failed.message().unwrap_or_default())
        })?;
    }
    Ok(())
}

/// Starts a runner, waits until it says that it has come to this stage, and kills it.
fn kill_victim(stage: &str, delay: Option<Duration>) -> Result<(), Failed> {
    let temporary = tempfile::tempdir()?;
    let mut victim = Command::new(std::env::current_exe()?)
        .env(CASE, format!("victim-{stage}"))
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().ok_or("no pipe")?).lines();
    let owner: i32 = lines.next().ok_or("it said nothing")??.parse()?;
    let namespace = namespace_of(owner)?;
    match delay {
        None => {
            let said = lines.next().ok_or("it ended")??;
            check(said == stage, || format!("it said {said:?}"))?;
        }
        Some(delay) => {
            let end = Instant::now() + delay;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
    }
    victim.kill()?;
    victim.wait()?;
    nothing_is_left(&namespace)?;
    temporary.path().read_dir()?.try_for_each(|entry| only_logs_are_left(&entry?.path()))
}

/// A runner that does nothing but wait to be killed.
pub(crate) fn be_a_victim(stage: &str) -> Result<(), Failed> {
    let testnet = if stage == "vms" { panicking(&["a", "b"]) } else { Testnet::new() };
    let (config, _dir) = config(&testnet)?;
    let mut owner = steading_group::spawn(config)?;
    tell(&owner.pid().to_string())?;
    owner.wait_until_ready()?;
    tell(stage)?;
    // Until it is killed; should it not be, for as long as the owner lives.
    owner.wait()?;
    Ok(())
}

fn tell(text: &str) -> Result<(), Failed> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn namespace_of(pid: i32) -> Result<String, Failed> {
    Ok(std::fs::read_link(format!("/proc/{pid}/ns/pid"))?.display().to_string())
}

/// The processes of a PID namespace.
fn members(namespace: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.flatten().filter_map(|entry| {
        let link = std::fs::read_link(entry.path().join("ns/pid")).ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        // One that has ended and waits for init to take note of it holds nothing any more.
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        if status.contains("State:\tZ") {
            return None;
        }
        (link.display().to_string() == namespace).then(|| name.trim().to_owned())
    });
    processes.collect()
}

fn nothing_is_left(namespace: &str) -> Result<(), Failed> {
    let end = Instant::now() + LIMIT;
    loop {
        let left = members(namespace);
        if left.is_empty() {
            return Ok(());
        }
        check(Instant::now() < end, || format!("a second later there are still {}", left.join(", ")))?;
    }
}

/// Below a case's directory there may be logs and the cache, and nothing else.
fn only_logs_are_left(dir: &std::path::Path) -> Result<(), Failed> {
    let scratch: Vec<_> = match std::fs::read_dir(dir.join("scratch")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    check(scratch.is_empty(), || format!("files are left: {scratch:?}"))
}
