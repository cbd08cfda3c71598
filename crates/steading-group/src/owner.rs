//! The owner's process, from its first instruction to its last.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use steading_api::{
    ActiveFault, ActiveFileFault, CA_NAME, DIRECTORY_FD, Ending, FACTS_NAME, KEY_NAME, OWNER_PREFIX,
    SOCKET_NAME, VmState, chain,
};
use steading_broker::{LEASE_FD, Lease, Stub};
use steading_files::ServedFile;
use steading_logs::TestLog;
use steading_names::AuthorityKey;
use steading_names::acme::Account;
use steading_net::Network;
use steading_plan::{LaunchRequest, Plan, Record};
use steading_sys::beside;
use steading_sys::inherited::check_files;
use steading_sys::namespace::{self, Child, Identity};
use steading_vm::engine::PreparedVm;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::GroupError;
use crate::api::{self, Group};
use crate::certificates::Certificates;
use crate::faults::{Faults, Numbers};
use crate::files::Files;
use crate::freeze::{self, Clock, Freezes};
use crate::frozen::{FrozenGroup, OpenedGroup, Past};
use crate::isolation::{self, Isolation, IsolationError};
use crate::job::Jobs;
use crate::key::LoginKey;
use crate::launched::{Launched, REMOVAL};
use crate::listening::Listening;
use crate::log::Log;
use crate::making::{Made, Making, VmBeginning};
use crate::names::Names;
use crate::router::{self, Router, Way};
use crate::sources::Sources;
use crate::taken::Taken;
use crate::targets;
use crate::time::Time;
use crate::vm::{Vm, settle};
use steading_sys::processes::{ExitWatch, Processes};

/// How long programs that still run may take to end by themselves when the group is torn down.
const GRACE: Duration = Duration::from_secs(10);

/// What the owner says when the group is up.
const READY: &[u8] = b"ready";

/// What a group is made from.
#[derive(Debug)]
pub struct GroupConfig {
    /// Everything that was derived.
    pub plan: Plan,
    /// What its VMs begin with.
    pub origin: Origin,
    /// What its file server serves from the beginning, as far as its origin does not say.
    pub files: Vec<ServedFile>,
    /// Where logs go; an existing directory.
    pub log_dir: Utf8PathBuf,
    /// Where VMs' disks go, as files without a name; an existing directory with room.
    pub scratch: Utf8PathBuf,
    /// What was reserved for it, and where to write what it takes.
    pub admission: Admission,
    /// How it is kept apart from all else.
    pub isolation: Isolation,
}

/// How a group stands with others that share its machine.
#[derive(Debug, Default)]
pub struct Admission {
    /// What was reserved, if anything was. All processes of the group have it open, and no other.
    pub lease: Option<Lease>,
    /// The file that keeps what this testnet was measured to take, if it is to be measured.
    pub peak: Option<Utf8PathBuf>,
}

impl Admission {
    /// What the log tells of the lease.
    fn told(&self) -> Option<String> {
        let lease = self.lease.as_ref()?;
        let (needs, number, waited) = (lease.needs, lease.number, lease.waited.as_secs_f64());
        Some(format!(
            "{needs} are reserved on this machine by ticket {number}, after a wait of {waited:.1} s"
        ))
    }
}

/// What the VMs of a group begin with.
#[derive(Debug)]
pub enum Origin {
    /// Their images and other inputs, in the order of the plan.
    Prepared(Vec<PreparedVm>),
    /// What was kept of another group.
    Frozen(Box<OpenedGroup>, Clock),
}

/// The owner of a group, seen from the process that started it. It dies with that process.
#[derive(Debug)]
pub struct Owner {
    child: Child,
    ready: File,
    /// What it complains about at its end.
    farewell: File,
    /// What removes what is left when it was killed, if the kernel does not.
    launcher: Option<Utf8PathBuf>,
    /// Its ticket is removed when it has ended.
    _ticket: Option<Stub>,
}

/// Starts a group's owner, with no exec. The caller must have one thread.
///
/// # Errors
///
/// When namespaces are not to be had, or the plan cannot be made real without.
pub fn spawn(mut config: GroupConfig) -> Result<Owner, GroupError> {
    check_files()?;
    config.isolation.check(&config.plan)?;
    let launcher = match &config.isolation {
        Isolation::Namespaces => None,
        Isolation::Launcher(launcher) => {
            // Of groups before this one, which may have its name.
            isolation::collect(Some(launcher))?;
            Some(launcher.clone())
        }
    };
    let (ready, tell_ready) = pipe()?;
    let (farewell, tell_farewell) = pipe()?;
    let identity = Identity::current()?;
    let reserved = config.admission.told();
    let (lease, ticket) = config.admission.lease.take().map(Lease::into_parts).unzip();
    // This process closes its copy of the lease, which is the group's alone from here on.
    let body = move || run(config, (lease, reserved), &identity, tell_ready, tell_farewell);
    let child = if launcher.is_some() { beside::spawn(body) } else { namespace::spawn(body) }?;
    Ok(Owner { child, ready, farewell, launcher, _ticket: ticket })
}

fn pipe() -> Result<(File, File), GroupError> {
    let made = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (reader, writer) = made.map_err(|error| GroupError::io("make a pipe")(error.into()))?;
    Ok((File::from(reader), File::from(writer)))
}

impl Owner {
    /// Waits until the group is up: network, router daemon, control API, and the VMs that start
    /// with it as running processes.
    ///
    /// # Errors
    ///
    /// What went wrong there.
    pub fn wait_until_ready(&mut self) -> Result<(), GroupError> {
        let mut said = Vec::new();
        self.ready.read_to_end(&mut said).map_err(GroupError::io("hear from the group's owner"))?;
        match said.as_slice() {
            READY => Ok(()),
            [] => Err(GroupError::Ended),
            error => Err(GroupError::Owner(String::from_utf8_lossy(error).into_owned())),
        }
    }

    /// Where the control API listens.
    pub fn socket_path(&self) -> String {
        steading_api::socket_path(self.pid())
    }

    /// The owner's process number, in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    /// Ends the group at once: the kernel ends all its processes.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }

    /// Waits for the owner's end, and returns its exit status, if it exited.
    ///
    /// # Errors
    ///
    /// When somebody else has waited for it.
    pub fn wait(self) -> io::Result<Option<i32>> {
        let status = rustix::process::waitpid(Some(self.child.pid), WaitOptions::empty())?;
        let status = status.and_then(|(_, status)| status.exit_status());
        if let Some(launcher) = &self.launcher {
            // It may have been killed. What cannot be removed now is removed before the next group.
            let _ = isolation::collect(Some(launcher));
        }
        Ok(status)
    }

    /// Waits for the owner's end, and returns what it complained about: log files that could not be written, each
    /// [in a line](in_a_line). Some of it may have been told before, as warnings.
    ///
    /// # Errors
    ///
    /// When somebody else has waited for it.
    pub fn wait_for_farewell(mut self) -> io::Result<String> {
        let mut said = String::new();
        // It ends with the owner, at the latest.
        self.farewell.read_to_string(&mut said)?;
        self.wait()?;
        Ok(said)
    }

    /// The descriptor that becomes readable when the owner ends (pidfd_open(2)).
    pub fn pidfd(&self) -> &OwnedFd {
        &self.child.pidfd
    }

    /// The owner's process, for waiting by other means.
    pub fn process(&self) -> Pid {
        self.child.pid
    }
}

/// The private directory, for this process and what it starts.
pub(crate) fn directory_path() -> String {
    // Where /proc is not of our own PID namespace, our number there is another than 1.
    let me = fs::read_link("/proc/self").ok().and_then(|path| path.to_str().map(str::to_owned));
    format!("/proc/{}/fd/{DIRECTORY_FD}", me.as_deref().unwrap_or("1"))
}

/// The control socket, for what this process starts.
pub(crate) fn socket_path() -> String {
    format!("{}/{SOCKET_NAME}", directory_path())
}

fn run(
    config: GroupConfig,
    (lease, reserved): (Option<OwnedFd>, Option<String>),
    identity: &Identity,
    mut ready: File,
    mut farewell: File,
) -> u8 {
    let place = match Place::set_up(&config, identity, lease.as_ref()) {
        Ok(place) => place,
        Err(error) => return give_up(&mut ready, &error),
    };
    let name: String = format!("{OWNER_PREFIX}{}", config.plan.group).chars().take(15).collect();
    // A name is a comfort.
    let _ = std::ffi::CString::new(name).map(|name| rustix::thread::set_name(&name));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.map_err(GroupError::io("start the event loop")) {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&mut ready, &error),
    };
    let mut keeper = None;
    let outcome = runtime.block_on(serve(config, reserved, &mut ready, &mut keeper));
    // Threads may still be serving files.
    runtime.shutdown_background();
    place.leave(keeper);
    match outcome {
        Ok(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| in_a_line(problem)).collect();
            // When nobody listens, nobody wants to know.
            let _ = farewell.write_all(lines.join("\n").as_bytes());
            0
        }
        Err(error) => give_up(&mut ready, &error),
    }
}

/// A problem as [`Owner::wait_for_farewell`] returns it.
pub fn in_a_line(problem: &str) -> String {
    problem.lines().collect::<Vec<_>>().join("; ")
}

/// Where the owner is, and what it holds open.
struct Place {
    _directory: OwnedFd,
    _lease: Option<OwnedFd>,
    /// The private directory, where it has a name.
    named: Option<PathBuf>,
}

impl Place {
    fn set_up(
        config: &GroupConfig,
        identity: &Identity,
        lease: Option<&OwnedFd>,
    ) -> Result<Self, GroupError> {
        let (directory, named) = match &config.isolation {
            Isolation::Namespaces => {
                let place = named_directory(config)?;
                (namespace::set_up(identity, place.as_deref())?, None)
            }
            Isolation::Launcher(_) => {
                let (directory, named) = beside::set_up(identity, isolation::directory()?.as_std_path())?;
                (directory, Some(named))
            }
        };
        Ok(Self {
            _directory: keep_directory(&directory)?,
            _lease: lease.map(keep_lease).transpose()?,
            named,
        })
    }

    /// Does what the kernel does where there are namespaces.
    fn leave(self, keeper: Option<Pid>) {
        let Some(named) = &self.named else { return };
        beside::end_children(keeper, REMOVAL);
        // What cannot be removed now is removed before the next group.
        let _ = fs::remove_dir_all(named);
    }
}

/// Where the private directory of this group is to be mounted in its own namespace, for engines whose programs
/// want a path that realpath(3) understands. The directory is made here, and stays empty for everybody else.
fn named_directory(config: &GroupConfig) -> Result<Option<Utf8PathBuf>, GroupError> {
    let Some(name) = config.plan.engine.capabilities().named_directory else { return Ok(None) };
    let path = config.log_dir.join(name).join("run");
    fs::create_dir_all(&path).map_err(GroupError::io("make a directory among the logs"))?;
    Ok(Some(path))
}

fn give_up(ready: &mut File, error: &GroupError) -> u8 {
    // When nobody listens, the exit status says it.
    let _ = ready.write_all(chain(error).as_bytes());
    1
}

/// Gives the private directory its well-known number.
fn keep_directory(directory: &OwnedFd) -> Result<OwnedFd, GroupError> {
    let number = DIRECTORY_FD.cast_signed();
    let kept = rustix::io::fcntl_dupfd_cloexec(directory, number)
        .map_err(|error| GroupError::io("keep the private directory open")(error.into()))?;
    Ok(kept)
}

/// Opens the lease for whatever this process starts: the kernel closes the files of a process before it
/// ends those of its PID namespace, and what is reserved must be so for as long as guests are there.
fn keep_lease(lease: &OwnedFd) -> Result<OwnedFd, GroupError> {
    let kept = rustix::io::fcntl_dupfd_cloexec(lease, LEASE_FD.cast_signed()).and_then(|kept| {
        rustix::io::fcntl_setfd(&kept, FdFlags::empty())?;
        Ok(kept)
    });
    kept.map_err(|error| GroupError::io("keep what was reserved")(error.into()))
}

/// Serves the group until somebody asks for its end; what went wrong with the log at the last.
async fn serve(
    config: GroupConfig,
    reserved: Option<String>,
    ready: &mut File,
    keeper: &mut Option<Pid>,
) -> Result<Vec<String>, GroupError> {
    let GroupConfig { plan, origin, files, log_dir, scratch, admission, isolation } = config;
    let began = Instant::now();
    let mut background = JoinSet::new();
    let (log, log_task) = Log::new(TestLog::open(&log_dir)?);
    let mut log_running = JoinSet::new();
    log_running.spawn(log_task.run());

    let processes = Processes::default();
    let reaper = processes.clone();
    let ends = Processes::ends().map_err(GroupError::io("learn of processes' ends"))?;
    background.spawn(async move {
        // Reading its own descriptor does not fail.
        let _ = reaper.run(ends).await;
    });
    let listener = listen()?;
    let mut keeping = JoinSet::new();
    let (network, mut launched, listening) = match &isolation {
        Isolation::Namespaces => {
            (Network::ensure(&plan.addresses).await?, None, Listening::own(&plan.addresses))
        }
        Isolation::Launcher(program) => {
            let request = LaunchRequest::of(&plan).map_err(IsolationError::from)?;
            let (launched, listening) = Launched::start(program, request, &processes)?;
            *keeper = Some(launched.keeper());
            keeping.spawn(tell_keepers_end(launched.exit(), log.clone()));
            (Network::of_launcher(), Some(launched), listening)
        }
    };
    if let Some(misled) = network.misled() {
        log.warn(None, misled).await;
    }
    let network = Arc::new(network);
    let mut router_end = None;
    let router_waits = matches!(origin, Origin::Frozen(..)) && launched.is_none();
    if let Some(configuration) = plan.dnsmasq.as_ref().filter(|_| !router_waits) {
        let way = launched
            .as_ref()
            .map_or(Way::Configured(configuration), |launched| Way::Launched(launched.router()));
        let router = Router::start(way, &processes).await?;
        router_end = Some(router.end());
        keeping.spawn(router.run(log.clone()));
    }

    let Beginning { key, authority, values, vms: beginnings, forked_from, clock, kept } =
        Beginning::of(origin, files, &plan)?;
    tell_facts(&plan, &key, &authority)?;
    let taken = Taken::default();
    let making = Making {
        plan: &plan,
        network: &network,
        launched: launched.as_mut(),
        key: &key,
        scratch: &scratch,
        log_dir: &log_dir,
        processes: &processes,
        log: &log,
        taken: &taken,
    };
    let Made { vms, images, journals } = making.make(beginnings, &mut background).await?;

    // Before any VM runs, so that one that goes on finds its network as it was.
    let numbers = Numbers::default();
    let sources = Sources::new(Arc::clone(&network), &plan.addresses, log.clone(), kept.sources).await?;
    let (names, answerer) = Names::start(
        &plan,
        Arc::clone(&network),
        listening.clone(),
        log.clone(),
        &kept.records,
        kept.resolvers,
    )
    .await?;
    background.spawn(answerer.run());
    let (certificates, acme) =
        Certificates::start(&plan.addresses, &listening, names.zone(), authority, kept.accounts, log.clone())
            .await?;
    background.spawn(acme.run());
    let faults = Faults::new(&plan, Arc::clone(&network), log.clone(), numbers.clone(), kept.faults).await?;
    let (files, teller) = Files::start(&plan, log.clone(), numbers, kept.files, kept.file_faults).await?;
    background.spawn(teller.run());
    background.spawn(Time::start(&plan, &listening, log.clone()).await?.run());
    background.spawn(targets::keep(files.clone(), vms.values().cloned().collect()));
    let (teardown, mut asked_to_end) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    let group = Arc::new(Group {
        jobs: Jobs::new(processes.clone(), log.clone(), faults.clone(), files.clone()),
        faults,
        files,
        sources,
        names,
        certificates,
        log: log.clone(),
        log_dir: log_dir.into_string(),
        key,
        forked_from,
        freezes: Freezes::default(),
        images,
        tasks,
        values: Mutex::new(values),
        isolation,
        teardown,
        vms: vms.clone(),
        plan,
    });
    let app = api::router(Arc::clone(&group));
    background.spawn(async move {
        // Ends with the process.
        let _ = axum::serve(listener, app).await;
    });
    log.driver(None, &format!("group {} is up: {}", group.plan.group, group.plan.resources)).await;
    if let Isolation::Launcher(launcher) = &group.isolation {
        log.driver(
            None,
            &format!("it has no namespaces: {launcher} has made its network in this host's own"),
        )
        .await;
    }
    if let Some(reserved) = reserved {
        log.driver(None, &reserved).await;
    }
    let started = match &group.forked_from {
        None => start_vms(&group.plan, &vms).await,
        Some(_) => go_on(&vms, &group, &network, clock).await,
    };
    if started.is_ok() {
        if group.forked_from.is_some() {
            let vms: Vec<&Vm> = vms.values().collect();
            let at_rest = settle::at_rest(&vms);
            if let Some(configuration) = group.plan.dnsmasq.clone().filter(|_| router_waits) {
                let when = settle::at_rest_or_booting(&vms, at_rest.clone());
                keeping.spawn(router::run_from(when, configuration, processes.clone(), log.clone()));
            }
            background.spawn(async move {
                at_rest.await;
                // Where nobody follows any more, nobody waits.
                for begin in journals {
                    let _ = begin.send(());
                }
            });
        }
        ready.write_all(READY).map_err(GroupError::io("tell that the group is up"))?;
        // The reader waits for the end of this pipe.
        close(ready)?;
        asked_to_end.recv().await;
        // Usually none runs any more; `down` in another terminal comes while one does.
        group.jobs.end_all(Ending::new(Signal::TERM.as_raw(), GRACE)).await;
        log.driver(None, "the group is torn down").await;
    }
    for vm in vms.values() {
        // One that has ended is as good as killed.
        let _ = vm.kill().await;
    }
    tell_peak(&group, &taken, admission.peak.as_deref(), began).await;
    let complaint = match launched {
        Some(launched) => {
            // From here on its end is no news, and the router daemon has nobody to serve.
            keeping.abort_all();
            if let Some(router) = router_end {
                router.ended().await;
            }
            launched.end().await
        }
        None => None,
    };
    if let Some(complaint) = &complaint {
        log.warn(None, complaint).await;
    }
    let problems = log.finish().await;
    started.map(|()| problems.into_iter().chain(complaint).collect())
}

/// The group goes on without it, and its network goes with the next collection of what is left.
async fn tell_keepers_end(mut keeper: ExitWatch, log: Log) {
    let exit = keeper.ended().await;
    log.warn(None, &format!("the launcher that keeps the group's network has ended ({exit:?}): `steading gc` would remove that")).await;
}

/// Logs what the VMs have taken, and keeps it for others of the same testnet.
async fn tell_peak(group: &Group, taken: &Taken, file: Option<&Utf8Path>, began: Instant) {
    let (Some(file), Some(measured)) = (file, taken.measured(began.elapsed())) else { return };
    group.log.driver(None, &taken.told(&group.plan)).await;
    if let Err(error) = steading_broker::record_peak(file, &group.plan, measured) {
        let why = chain(&error);
        group.log.driver(None, &format!("what it took is not kept in {file}: {why}")).await;
    }
}

/// Puts what programs of any language want to know into the private directory, as files.
fn tell_facts(plan: &Plan, key: &LoginKey, authority: &AuthorityKey) -> Result<(), GroupError> {
    let failed = "write the group's facts";
    let facts = serde_json::to_vec_pretty(plan).map_err(|error| GroupError::io(failed)(error.into()))?;
    let files = [
        (FACTS_NAME, facts.as_slice()),
        (KEY_NAME, key.private.as_bytes()),
        (CA_NAME, authority.certificate.as_bytes()),
    ];
    for (name, content) in files {
        let path = format!("{}/{name}", directory_path());
        // ssh(1) refuses a key that others could read.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(GroupError::io(failed))?;
        file.write_all(content).map_err(GroupError::io(failed))?;
    }
    Ok(())
}

/// Closes the writing end of the pipe, by putting something else in its place.
fn close(ready: &mut File) -> Result<(), GroupError> {
    let nothing = fs::OpenOptions::new().write(true).open("/dev/null");
    *ready = nothing.map_err(GroupError::io("open /dev/null"))?.into_parts().0;
    Ok(())
}

async fn start_vms(plan: &Plan, vms: &BTreeMap<String, Vm>) -> Result<(), GroupError> {
    let mut starting = JoinSet::new();
    for vm in plan.vms.iter().filter(|vm| vm.spec.autostart) {
        if let Some(vm) = vms.get(vm.name.as_str()).cloned() {
            starting.spawn(async move { vm.start().await });
        }
    }
    for outcome in starting.join_all().await {
        outcome.map_err(|failure| GroupError::Owner(failure.message))?;
    }
    Ok(())
}

async fn go_on(
    vms: &BTreeMap<String, Vm>,
    group: &Group,
    network: &Network,
    clock: Clock,
) -> Result<(), GroupError> {
    let vms: Vec<&Vm> = vms.values().collect();
    for vm in vms.iter().filter(|vm| vm.status().state == VmState::Frozen) {
        network.know(vm.plan.address, vm.plan.mac).await?;
    }
    let gone_on = freeze::go_on(&vms, &group.tasks, clock).await;
    gone_on.map_err(|failure| GroupError::Owner(failure.message))
}

/// What a group begins with, whatever its origin.
struct Beginning {
    key: LoginKey,
    authority: AuthorityKey,
    values: HashMap<String, serde_json::Value>,
    vms: Vec<VmBeginning>,
    forked_from: Option<String>,
    clock: Clock,
    kept: KeptNetwork,
}

/// What its network offers, and does wrong.
#[derive(Default)]
struct KeptNetwork {
    faults: Vec<ActiveFault>,
    files: Vec<ServedFile>,
    file_faults: Vec<ActiveFileFault>,
    sources: Vec<Ipv6Addr>,
    records: Vec<Record>,
    resolvers: Vec<IpAddr>,
    accounts: Vec<Account>,
}

impl Beginning {
    fn of(origin: Origin, files: Vec<ServedFile>, plan: &Plan) -> Result<Self, GroupError> {
        Ok(match origin {
            Origin::Prepared(prepared) => Self {
                key: LoginKey::new()?,
                authority: AuthorityKey::new(plan.group.as_str())?,
                values: HashMap::new(),
                vms: prepared.into_iter().map(VmBeginning::Prepared).collect(),
                forked_from: None,
                clock: Clock::default(),
                kept: KeptNetwork {
                    files,
                    records: plan.records.clone(),
                    resolvers: plan.resolvers.clone(),
                    ..KeptNetwork::default()
                },
            },
            Origin::Frozen(opened, clock) => {
                let OpenedGroup { description, vms } = *opened;
                let FrozenGroup { id, key, values, vms: past, faults, files, file_faults, .. } = description;
                let FrozenGroup { sources, records, resolvers, authority, acme_accounts: accounts, .. } =
                    description;
                let kept = KeptNetwork { faults, files, file_faults, sources, records, resolvers, accounts };
                let pasts = vms.into_iter().zip(past);
                let pasts =
                    pasts.map(|(frozen, record)| VmBeginning::Past(Box::new(Past { frozen, record })));
                Self { key, authority, values, vms: pasts.collect(), forked_from: Some(id), clock, kept }
            }
        })
    }
}

fn listen() -> Result<UnixListener, GroupError> {
    let failed = "listen for the control API";
    let listener = StdListener::bind(socket_path()).map_err(GroupError::io(failed))?;
    listener.set_nonblocking(true).map_err(GroupError::io(failed))?;
    UnixListener::from_std(listener).map_err(GroupError::io(failed))
}
