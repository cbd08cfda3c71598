//! A group's own libvirt: a session daemon in the group's namespaces, and a process that holds what
//! domains are made of.
//!
//! libvirt knows files by name, and the group's have none. So the holder, a process without any
//! capability, has them all open, and domains name them by its descriptors (`steading_plan::DomainPaths`).
//! QEMU has no capability either, so it may look into that process, as it may not into the owner.
//! The holder outlives the daemon: a daemon that is killed is started again and finds its domains.

mod control;
mod daemon;
pub(super) mod error;
mod virsh;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::ChildStdin;
use std::sync::Arc;

use camino::Utf8PathBuf;
use fs_err as fs;
use rustix::process::Pid;
use steading_plan::{
    DOMAIN_DIRECTORY, DomainPaths, Handle, QemuFacts, VmName, VmPlan, chain, domain, socket_name,
};
use steading_sys::process::Program;
use steading_sys::processes::Processes;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::control::Boxed;
use super::error::EngineError;
use super::machine::{EngineConfig, Machine, Start, VmEngine};
use super::qemu;
use crate::agent::GuestAgent;
use crate::qmp::Qmp;
use control::DomainControl;
use daemon::Daemon;
pub use error::LibvirtError;

/// The Debian package of `virsh`.
const CLIENTS: &str = "libvirt-clients";

/// The directory of libvirt's own logs, in the group's.
const LOGS: &str = "libvirt";

/// How the holder says its number, which is another than ours where `/proc` is not of our own PID
/// namespace. It ends with its input, hence with the owner.
const HOLD: &str = "read -r number rest < /proc/self/stat; echo \"$number\"; exec cat";

/// The libvirt of a group.
#[derive(Clone, Debug)]
pub(super) struct Libvirt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: DomainPaths,
    facts: QemuFacts,
    processes: Processes,
    daemon: Daemon,
    /// The private directory, for this process.
    directory: Utf8PathBuf,
    logs: Utf8PathBuf,
    /// The holder ends with it.
    _holder: ChildStdin,
}

/// The listening ends of the sockets that a domain connects to.
struct Sockets {
    paths: Vec<Utf8PathBuf>,
    monitor: UnixListener,
    console: UnixListener,
    agent: UnixListener,
}

impl Libvirt {
    /// Starts it. The daemon serves when this returns.
    pub(super) async fn start(config: EngineConfig<'_>) -> Result<Self, LibvirtError> {
        let mut files = Vec::new();
        for (index, vm) in config.files {
            let duplicates = vm.duplicates().map_err(LibvirtError::io("hold files"))?;
            let numbered = duplicates.into_iter();
            files.extend(numbered.map(|(file, number)| (file, DomainPaths::number(index, number))));
        }
        let (directory, processes) = (config.directory.to_owned(), config.processes);
        let logs = config.log_dir.join(LOGS);
        fs::create_dir_all(&logs).map_err(LibvirtError::io("make a directory of logs"))?;
        let opened = fs::File::open(&directory).map_err(LibvirtError::io("open the private directory"))?;
        files.push((OwnedFd::from(opened.into_parts().0), DOMAIN_DIRECTORY));
        let (descriptors, holder) = hold(files, &processes).await?;
        let authorized_key = config.authorized_key.to_owned();
        let paths = DomainPaths { descriptors, logs: logs.to_string(), authorized_key };
        let daemon = Daemon::new(&paths, &directory, &logs, processes.clone(), config.warnings)?;
        daemon.ensure().await?;
        let facts = config.plan.qemu.clone();
        let inner = Inner { paths, facts, processes, daemon, directory, logs, _holder: holder };
        Ok(Self(Arc::new(inner)))
    }

    /// Boots a VM: as a transient domain, which libvirt forgets when it ends.
    async fn boot(&self, vm: Start<'_>) -> Result<Machine, EngineError> {
        let failed = |source| EngineError::Domain { vm: vm.plan.name.clone(), source };
        if vm.boot > 1 {
            // One whose QEMU has just ended may be known for a moment longer.
            let _ = self.virsh(&["destroy", vm.plan.name.as_str()], "").await;
        }
        let sockets = self.listen(vm.plan).map_err(LibvirtError::io("listen")).map_err(failed)?;
        let domain = domain(vm.index, vm.plan, &self.0.facts, &self.0.paths);
        let created = self.virsh(&["create", "/dev/stdin"], domain.as_str()).await;
        let connected = match created {
            Ok(_) => self.accept(vm.plan, &sockets).await,
            Err(error) => Err(error),
        };
        // What connects later is libvirt itself, which would speak with the guest's agent beside us.
        for path in &sockets.paths {
            let _ = fs::remove_file(path);
        }
        self.machine(vm, connected.map_err(failed)?).await
    }

    /// Does something to a VM; the verb is virsh's.
    pub(super) async fn act(&self, vm: &VmName, verb: &[&str]) -> Result<(), LibvirtError> {
        let words: Vec<&str> = verb.iter().copied().chain(["--domain", vm.as_str()]).collect();
        self.virsh(&words, "").await.map(drop)
    }

    /// The last that QEMU itself complained about, for the reason of its end.
    pub(super) fn complaint(&self, vm: &VmName) -> String {
        let text = fs::read(self.0.logs.join(format!("{vm}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // libvirt's own lines have its times; QEMU's, its name behind a time (`-msg timestamp=on`).
        let complaint = text.lines().rev().take_while(|line| !line.contains("starting up"));
        complaint
            .filter(|line| line.contains("qemu-system"))
            .find(|line| !line.starts_with('-'))
            .map_or_else(String::new, |line| line.split_once(' ').map_or(line, |(_, rest)| rest).to_owned())
    }

    async fn virsh(&self, words: &[&str], input: &str) -> Result<String, LibvirtError> {
        self.0.daemon.ensure().await?;
        virsh::run(&self.0.processes, &daemon::uri(&self.0.paths), words, input).await
    }

    fn listen(&self, vm: &VmPlan) -> std::io::Result<Sockets> {
        let mut paths = Vec::new();
        let mut bind = |handle| {
            let path = self.0.directory.join(socket_name(vm, handle));
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path);
            paths.push(path);
            listener
        };
        let (monitor, console, agent) = (bind(Handle::Qmp)?, bind(Handle::Console)?, bind(Handle::Agent)?);
        Ok(Sockets { paths, monitor, console, agent })
    }

    /// QEMU has connected when libvirt says that the domain runs: it does so before it reads a guest's
    /// first instruction.
    async fn accept(&self, vm: &VmPlan, sockets: &Sockets) -> Result<Connections, LibvirtError> {
        let accepted = async {
            let (monitor, _) = sockets.monitor.accept().await?;
            let (console, _) = sockets.console.accept().await?;
            let (agent, _) = sockets.agent.accept().await?;
            let file = self.0.directory.join(format!("run/libvirt/qemu/run/{}.pid", vm.name));
            let number = fs::read_to_string(file)?.trim().parse().ok().and_then(Pid::from_raw);
            let pid = number.ok_or_else(|| std::io::Error::other("libvirt's file of its number is empty"))?;
            Ok(Connections { pid, monitor, console, agent })
        };
        accepted.await.map_err(LibvirtError::io("take over QEMU's sockets"))
    }

    async fn machine(&self, vm: Start<'_>, connected: Connections) -> Result<Machine, EngineError> {
        let Connections { pid, monitor, console, agent } = connected;
        let exit = self.0.processes.adopt(pid);
        let name = vm.plan.name.clone();
        let (sink, events, _) = qemu::events();
        let (qmp, driver) = match Qmp::connect_to(monitor, sink).await {
            Ok(connected) => connected,
            Err(source) => {
                qemu::kill(pid);
                exit.clone().ended().await;
                let said = self.complaint(&name);
                let said = if said.is_empty() { said } else { format!(": {said}") };
                return Err(EngineError::Qmp { vm: name, said, source });
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { driver.run().await.err().map(|error| chain(&error)).unwrap_or_default() });
        let (libvirt, mut ended, vm_name) = (self.clone(), exit.clone(), name.clone());
        tasks.spawn(async move {
            ended.ended().await;
            libvirt.complaint(&vm_name)
        });
        let control = DomainControl {
            libvirt: self.clone(),
            vm: name,
            pid,
            exit: exit.clone(),
            qmp,
            screenshot: vm.files.screenshot().and_then(Result::ok),
            screenshot_path: self.0.paths.file(vm.index, Handle::Screenshot),
        };
        Ok(Machine {
            pid: Some(pid),
            exit,
            control: Arc::new(control),
            events,
            console,
            agent: Some(GuestAgent::new(agent)),
            errors: None,
            tasks,
        })
    }
}

impl VmEngine for Libvirt {
    fn start<'a>(&'a self, vm: Start<'a>) -> Boxed<'a, Result<Machine, EngineError>> {
        Box::pin(self.boot(vm))
    }
}

/// The sockets of a domain that has started, and its process.
struct Connections {
    pid: Pid,
    monitor: UnixStream,
    console: UnixStream,
    agent: UnixStream,
}

/// Starts the holder; where its descriptors are, and what it ends with.
async fn hold(
    files: Vec<(OwnedFd, u32)>,
    processes: &Processes,
) -> Result<(String, ChildStdin), LibvirtError> {
    let argv = ["sh", "-c", HOLD].map(str::to_owned).into();
    let program =
        Program { argv, package: None, env: Vec::new(), cwd: None, fds: files, network_capabilities: false };
    let (mut started, _) = processes.start(|| program.start(), |started| started.pid)?;
    // Nothing is to be written yet, and `cat` prints what is.
    started.stdin.flush().map_err(LibvirtError::io("hold files"))?;
    let said =
        pipe::Receiver::from_owned_fd(started.stdout.into()).map_err(LibvirtError::io("hold files"))?;
    let number = BufReader::new(said).lines().next_line().await.map_err(LibvirtError::io("hold files"))?;
    let number = number.filter(|number| number.parse::<u32>().is_ok());
    let ended = || LibvirtError::io("hold files")(std::io::Error::other("the holder has ended"));
    Ok((format!("/proc/{}/fd", number.ok_or_else(ended)?), started.stdin))
}
