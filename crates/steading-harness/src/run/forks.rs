//! Runs functions each in a fork of the testnet of its own.
//!
//! The group is frozen once where its tests are to begin. Each test then has a process of its own
//! that makes a fork and holds it (`crate::hold::hold`); whatever becomes of the runner, the fork
//! ends with that process.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use steading_api::{Client, ClientError, FreezeRequest, chain};
use steading_broker::{BrokerError, LEASE_FD, Lease, Stub};
use steading_group::WantedIsolation;
use steading_plan::{LABEL_MAX, Resources, file_name};
use steading_sys::process::{Program, RunError, Started};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::More;
use crate::frozen::SETTLE_LIMIT;
use crate::hold::{BootArgs, HoldArgs, Holding};
use crate::host::{available_memory_mib, host_resources};
use crate::suite::SectionId;

/// The directory of forks' logs, in that of the run's.
pub(crate) const FORKS: &str = "forks";

/// How long a fork may take to be torn down.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How many virtual CPUs forks may have, for each that the host has: a guest mostly waits.
const VCPUS_PER_CPU: u64 = 4;

/// Why a function has no fork to run in.
#[derive(Debug, Error)]
pub(crate) enum ForkError {
    /// The testnet cannot be frozen.
    #[error("cannot freeze the testnet to fork from it")]
    Freeze(#[source] ClientError),
    /// Another testnet cannot be booted.
    #[error("cannot boot another testnet")]
    Boot(#[source] ClientError),
    /// The process that is to hold it.
    #[error("cannot start the process for a fork")]
    Start(#[from] RunError),
    /// Nothing can be reserved for it.
    #[error("cannot reserve CPUs and memory for a fork of the testnet")]
    Reserve(#[from] BrokerError),
    /// It is ended, or does not speak.
    #[error("cannot make a fork of the testnet: {0}")]
    Hold(String),
}

/// Room for one fork.
#[derive(Debug)]
struct Slot {
    permits: Vec<OwnedSemaphorePermit>,
    lease: Option<Lease>,
}

/// The forks of one run.
#[derive(Debug)]
pub(crate) struct Forks {
    client: Client,
    log_dir: Utf8PathBuf,
    slots: Arc<Semaphore>,
    at_most: u32,
    /// For one fork there is room by what is reserved for the group itself, which stands meanwhile.
    own_room: Arc<Semaphore>,
    /// The way to room for others; none where nothing is reserved.
    more: Option<More>,
    /// Functions that run in the group itself.
    in_group: AtomicUsize,
    freezes: tokio::sync::Mutex<ForkPoints>,
    /// How many testnets were booted in place of forks.
    booted: AtomicUsize,
}

#[derive(Debug, Default)]
struct ForkPoints {
    /// By the section whose setups are in it.
    ids: HashMap<SectionId, String>,
    /// The group stands frozen.
    stands: bool,
}

impl Forks {
    /// Forks of the group behind this client, `at_most` at once.
    pub(crate) fn new(client: Client, log_dir: &Utf8Path, at_most: usize, more: Option<More>) -> Self {
        let at_most = at_most.clamp(1, Semaphore::MAX_PERMITS.min(1 << 16));
        Self {
            client,
            log_dir: log_dir.to_owned(),
            slots: Arc::new(Semaphore::new(at_most)),
            at_most: u32::try_from(at_most).unwrap_or(1),
            own_room: Arc::new(Semaphore::new(1)),
            more,
            in_group: AtomicUsize::new(0),
            freezes: tokio::sync::Mutex::default(),
            booted: AtomicUsize::new(0),
        }
    }

    /// A function is about to run in the group itself. See [`Self::thawed`].
    pub(crate) fn enter_group(&self) {
        self.in_group.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended.
    pub(crate) fn leave_group(&self) {
        self.in_group.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until the group itself goes on, after [`Self::enter_group`].
    pub(crate) async fn thawed(&self) -> Result<(), ClientError> {
        let mut freezes = self.freezes.lock().await;
        if freezes.stands {
            self.client.thaw().await?;
            freezes.stands = false;
        }
        Ok(())
    }

    /// Waits until there is no fork any more.
    pub(crate) async fn all_ended(&self) {
        // Nobody closes it.
        let _ = self.slots.acquire_many(self.at_most).await;
    }

    /// Makes a fork of the testnet as the setups of this section left it.
    pub(crate) async fn fork(&self, point: SectionId, name: &str, attempt: u32) -> Result<Fork, ForkError> {
        let slot = self.slot().await?;
        let id = self.freeze(point).await.map_err(ForkError::Freeze)?;
        let log_dir = self.log_dir(name, attempt);
        Fork::start(HoldArgs::argv(self.client.endpoint(), &id, &log_dir), log_dir, slot).await
    }

    /// Boots another testnet in place of a fork.
    pub(crate) async fn boot(&self, name: &str, attempt: u32) -> Result<Fork, ForkError> {
        let slot = self.slot().await?;
        let status = self.client.status().await.map_err(ForkError::Boot)?;
        let log_dir = self.log_dir(name, attempt);
        let group = status.plan.group.as_str();
        let argv = if status.has_namespaces {
            BootArgs::argv(group, status.plan.engine, WantedIsolation::Namespaces, &log_dir)
        } else {
            // In one network each has its own name, hence its own addresses.
            let number = self.booted.fetch_add(1, Ordering::SeqCst) + 1;
            let group = numbered(group, number);
            BootArgs::argv(&group, status.plan.engine, WantedIsolation::Launcher, &log_dir)
        };
        Fork::start(argv, log_dir, slot).await
    }

    /// Waits until there may be one more fork. The queue of the machine is not entered: who holds
    /// something and waits for more there would wait for others who do the same.
    async fn slot(&self) -> Result<Slot, ForkError> {
        let is_over = |_| ForkError::Hold("the run is over".to_owned());
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(is_over)?;
        let Some(more) = &self.more else { return Ok(Slot { permits: vec![slot], lease: None }) };
        if let Ok(own) = Arc::clone(&self.own_room).try_acquire_owned() {
            return Ok(Slot { permits: vec![slot, own], lease: None });
        }
        if let Some(lease) = more.try_take()? {
            return Ok(Slot { permits: vec![slot], lease: Some(lease) });
        }
        let own = Arc::clone(&self.own_room).acquire_owned().await.map_err(is_over)?;
        Ok(Slot { permits: vec![slot, own], lease: None })
    }

    fn log_dir(&self, name: &str, attempt: u32) -> Utf8PathBuf {
        let mut dir = file_name(name);
        if attempt > 1 {
            dir = format!("{dir}.{attempt}");
        }
        self.log_dir.join(FORKS).join(dir)
    }

    /// Freezes the group, once for each section. It stands until somebody needs it.
    pub(crate) async fn freeze(&self, point: SectionId) -> Result<String, ClientError> {
        let mut freezes = self.freezes.lock().await;
        if let Some(id) = freezes.ids.get(&point) {
            return Ok(id.clone());
        }
        let stay = self.in_group.load(Ordering::SeqCst) == 0;
        let request = FreezeRequest { stay, ..FreezeRequest::default() }.settled_within(SETTLE_LIMIT);
        let was_standing = std::mem::take(&mut freezes.stands);
        if was_standing {
            self.client.thaw().await?;
        }
        let frozen = self.client.freeze(&request).await?;
        freezes.stands = request.stay;
        freezes.ids.insert(point, frozen.id.clone());
        Ok(frozen.id)
    }
}

/// The name of a group next to another of the same testnet (a DNS label, as all names of groups).
fn numbered(group: &str, number: usize) -> String {
    let number = format!("-{number}");
    let kept: String = group.chars().take(LABEL_MAX - number.len()).collect();
    format!("{}{number}", kept.trim_end_matches('-'))
}

/// How many forks of a testnet that needs this much may run at once on this host, in addition to the one
/// that they are forked from: by its memory, and by its CPUs. One always may.
pub(crate) fn at_most(needed: Resources) -> usize {
    let by_cpus = host_resources().cpus * VCPUS_PER_CPU / needed.vcpus.max(1);
    let by_memory = available_memory_mib() / (needed.memory_mib + needed.overhead_mib).max(1);
    usize::try_from(by_cpus.min(by_memory)).unwrap_or(usize::MAX).max(1)
}

/// This program, for those who start it again, even if it was built again meanwhile: then its file
/// has no name any more (proc_pid_exe(5)), and who starts it is a copy of this process.
pub(crate) fn this_program() -> String {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.map_or_else(|| "/proc/self/exe".to_owned(), |path| path.to_string_lossy().into_owned())
}

/// A fork, by the process that holds it. It ends when it is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Fork {
    /// The way to it.
    pub(crate) client: Client,
    /// Where its logs are.
    pub(crate) log_dir: Utf8PathBuf,
    process: HoldProcess,
    /// Given back after the process has ended.
    _ticket: Option<Stub>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Fork {
    async fn start(words: Vec<String>, log_dir: Utf8PathBuf, slot: Slot) -> Result<Self, ForkError> {
        let Slot { permits, lease } = slot;
        let (lease, ticket) = lease.map(Lease::into_parts).unzip();
        let argv = std::iter::once(this_program()).chain(words).collect();
        let mut process = HoldProcess::start(argv, lease)?;
        let line = process.line().await.unwrap_or_default();
        let Ok(Holding { endpoint }) = serde_json::from_str(&line) else {
            // It has ended, or is about to.
            let why = process.ended().await;
            return Err(ForkError::Hold(why.trim().trim_start_matches("error: ").to_owned()));
        };
        let client = Client::new(endpoint);
        Ok(Self { client, log_dir, process, _ticket: ticket, _permits: permits })
    }

    /// Tears it down, and waits for its end. Returns what it complained about at the last.
    pub(crate) async fn tear_down(mut self) -> String {
        let orderly = async {
            // When it cannot be asked it has ended.
            let _ = self.client.tear_down().await;
            self.process.ended().await
        };
        // One that takes longer is ended when it is dropped.
        tokio::time::timeout(TEARDOWN_LIMIT, orderly).await.unwrap_or_default()
    }
}

/// The process that holds a fork. Both have its standard output, which ends with the last of them.
#[derive(Debug)]
struct HoldProcess {
    pid: Pid,
    pidfd: OwnedFd,
    is_reaped: bool,
    said: Lines<BufReader<pipe::Receiver>>,
    complaints: pipe::Receiver,
}

impl HoldProcess {
    /// It and all that it starts have the lease open.
    fn start(argv: Vec<String>, lease: Option<OwnedFd>) -> Result<Self, ForkError> {
        let program = Program {
            argv,
            package: None,
            env: Vec::new(),
            cwd: None,
            fds: lease.map(|lease| (lease, LEASE_FD)).into_iter().collect(),
            network_capabilities: true,
        };
        let Started { pid, stdout, stderr, .. } = program.start()?;
        let failed = |error: std::io::Error| ForkError::Hold(chain(&error));
        // Nobody else waits for it, so the number is its own.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        let pidfd = pidfd.map_err(|error| failed(error.into()))?;
        let said = pipe::Receiver::from_owned_fd(stdout.into()).map_err(failed)?;
        let said = BufReader::new(said).lines();
        let complaints = pipe::Receiver::from_owned_fd(stderr.into()).map_err(failed)?;
        Ok(Self { pid, pidfd, is_reaped: false, said, complaints })
    }

    /// The next line that it says; none when it and its fork have ended.
    async fn line(&mut self) -> Option<String> {
        self.said.next_line().await.ok().flatten()
    }

    /// Waits for its end, and for that of its fork. Returns what it complained about.
    async fn ended(&mut self) -> String {
        let mut complaints = String::new();
        let _ = self.complaints.read_to_string(&mut complaints).await;
        while self.line().await.is_some() {}
        self.reap();
        complaints
    }

    fn reap(&mut self) {
        if !std::mem::replace(&mut self.is_reaped, true) {
            let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

impl Drop for HoldProcess {
    fn drop(&mut self) {
        if !self.is_reaped {
            // The fork's owner ends with it.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.reap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_like_another_has_a_good_name_however_long_the_others_is() {
        assert_eq!(numbered("etcd", 1), "etcd-1");
        let long = format!("{}-b", "a".repeat(61));
        for name in [numbered(&long, 1), numbered(&long, 12)] {
            assert!(name.parse::<steading_plan::GroupName>().is_ok(), "{name}");
        }
    }
}
