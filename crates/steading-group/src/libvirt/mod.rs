//! A group's own libvirt: a session daemon in the group's namespaces, and a process that holds what
//! domains are made of.
//!
//! libvirt knows files by name, and the group's have none. So the holder, a process without any
//! capability, has them all open, and domains name them by its descriptors (`steading_plan::Held`).
//! QEMU has no capability either, so it may look into that process, as it may not into the owner.
//! The holder outlives the daemon: a daemon that is killed is started anew and finds its domains.

mod daemon;
mod virsh;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::ChildStdin;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::process::Pid;
use steading_plan::{Domain, Engine, HELD_DIRECTORY, Handle, Held, QemuFacts, VmName, VmPlan, socket_name};
use steading_sys::process::{Exit, Program, RunError};
use steading_vm::agent::GuestAgent;
use steading_vm::engine::Machine;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::pipe;

use crate::GroupConfig;
use crate::log::Log;
use crate::processes::{ExitWatch, Processes};
use daemon::Daemon;

/// The Debian package of `virsh`.
const CLIENTS: &str = "libvirt-clients";

/// The directory of libvirt's own logs, in the group's.
pub(crate) const LOGS: &str = "libvirt";

/// How the holder says its number, which is another than ours where `/proc` is not of our own PID
/// namespace. It ends with its input, hence with the owner.
const HOLD: &str = "read -r number rest < /proc/self/stat; echo \"$number\"; exec cat";

/// What cannot be done with libvirt.
#[derive(Debug, Error)]
pub enum LibvirtError {
    /// A program that cannot be started.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file or socket of the owner's own.
    #[error("cannot {action} for libvirt")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The daemon ends instead of serving.
    #[error("libvirt's daemon does not come up ({exit:?}){said}\nhint: {log} has what it said")]
    Daemon {
        /// How it ended.
        exit: Exit,
        /// What it complained about, with a line break before it; or nothing.
        said: String,
        /// Its log.
        log: Utf8PathBuf,
    },
    /// Something that libvirt refuses.
    #[error("`virsh {command}` failed: {said}")]
    Refused {
        /// What was asked.
        command: String,
        /// What virsh says.
        said: String,
    },
}

impl LibvirtError {
    /// Whether libvirt knows no such domain, or one that is off.
    pub(crate) fn is_off(&self) -> bool {
        let signs = ["failed to get domain", "domain is not running"];
        matches!(self, Self::Refused { said, .. } if signs.iter().any(|sign| said.contains(sign)))
    }

    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Where the private directory of this group is to be mounted, in its own namespace: QEMU, when libvirt
/// tries what it can, wants a path that realpath(3) understands. The directory is made here, and stays
/// empty for all others.
pub(crate) fn place_of(config: &GroupConfig) -> Result<Option<Utf8PathBuf>, LibvirtError> {
    if config.plan.engine != Engine::Libvirt {
        return Ok(None);
    }
    let place = config.log_dir.join(LOGS).join("run");
    fs::create_dir_all(&place).map_err(LibvirtError::io("make a directory"))?;
    Ok(Some(place))
}

/// The libvirt of a group.
#[derive(Clone, Debug)]
pub(crate) struct Libvirt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Held,
    facts: QemuFacts,
    processes: Processes,
    daemon: Daemon,
    /// The private directory, for this process.
    directory: Utf8PathBuf,
    logs: Utf8PathBuf,
    /// The holder ends with it.
    _holder: ChildStdin,
}

/// What a libvirt of a group is made from.
pub(crate) struct LibvirtConfig<'a> {
    /// The open files of all VMs, with their numbers ([`Held::number`]).
    pub(crate) files: Vec<(OwnedFd, u32)>,
    pub(crate) authorized_key: String,
    pub(crate) facts: QemuFacts,
    pub(crate) processes: Processes,
    pub(crate) log: Log,
    /// The directory of the group's logs.
    pub(crate) log_dir: &'a Utf8Path,
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
    pub(crate) async fn start(config: LibvirtConfig<'_>) -> Result<Self, LibvirtError> {
        let LibvirtConfig { mut files, authorized_key, facts, processes, log, log_dir } = config;
        let directory = Utf8PathBuf::from(crate::owner::directory_path());
        let logs = log_dir.join(LOGS);
        fs::create_dir_all(&logs).map_err(LibvirtError::io("make a directory of logs"))?;
        let opened = fs::File::open(&directory).map_err(LibvirtError::io("open the private directory"))?;
        files.push((OwnedFd::from(opened.into_parts().0), HELD_DIRECTORY));
        let (descriptors, holder) = hold(files, &processes).await?;
        let held = Held { descriptors, logs: logs.to_string(), authorized_key };
        let daemon = Daemon::new(&held, &directory, &logs, processes.clone(), log)?;
        daemon.ensure().await?;
        let inner = Inner { held, facts, processes, daemon, directory, logs, _holder: holder };
        Ok(Self(Arc::new(inner)))
    }

    /// Boots a VM: as a transient domain, which libvirt forgets when it ends.
    pub(crate) async fn boot(
        &self,
        index: u32,
        vm: &VmPlan,
        number: u32,
    ) -> Result<(Machine, ExitWatch), LibvirtError> {
        if number > 1 {
            // One whose QEMU has just ended may be known for a moment longer.
            let _ = self.virsh(&["destroy", vm.name.as_str()], "").await;
        }
        let sockets = self.listen(vm).map_err(LibvirtError::io("listen"))?;
        let domain = Domain::derive(index, vm, &self.0.facts, &self.0.held);
        let created = self.virsh(&["create", "/dev/stdin"], domain.as_str()).await;
        let machine = match created {
            Ok(_) => self.take(vm, &sockets).await,
            Err(error) => Err(error),
        };
        // What connects later is libvirt itself, which would speak with the guest's agent beside us.
        for path in &sockets.paths {
            let _ = fs::remove_file(path);
        }
        machine
    }

    /// Does something to a VM; the verb is virsh's.
    pub(crate) async fn act(&self, vm: &VmName, verb: &[&str]) -> Result<(), LibvirtError> {
        let words: Vec<&str> = verb.iter().copied().chain(["--domain", vm.as_str()]).collect();
        self.virsh(&words, "").await.map(drop)
    }

    /// Where QEMU finds a file of this VM.
    pub(crate) fn file(&self, index: u32, handle: Handle) -> String {
        self.0.held.file(index, handle)
    }

    /// The last that QEMU itself complained about, for the reason of its end.
    pub(crate) fn complaint(&self, vm: &VmName) -> String {
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
        virsh::run(&self.0.processes, &daemon::uri(&self.0.held), words, input).await
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
    async fn take(&self, vm: &VmPlan, sockets: &Sockets) -> Result<(Machine, ExitWatch), LibvirtError> {
        let taken = async {
            let (monitor, _) = sockets.monitor.accept().await?;
            let (console, _) = sockets.console.accept().await?;
            let (agent, _) = sockets.agent.accept().await?;
            let file = self.0.directory.join(format!("run/libvirt/qemu/run/{}.pid", vm.name));
            let number = fs::read_to_string(file)?.trim().parse().ok().and_then(Pid::from_raw);
            let pid = number.ok_or_else(|| std::io::Error::other("libvirt's file of its number is empty"))?;
            let agent = GuestAgent::new(agent);
            Ok(Machine { pid, monitor, console, agent, thaw: None, errors: None, memory: None })
        };
        let machine = taken.await.map_err(LibvirtError::io("take over QEMU's sockets"))?;
        let exit = self.0.processes.adopt(machine.pid);
        Ok((machine, exit))
    }
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
