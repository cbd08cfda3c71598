//! The session daemon: `libvirtd`, as the caller's own user, with all its files in the private
//! directory.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixDatagram as StdDatagram;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_plan::{DomainPaths, libvirt_socket};
use steading_sys::process::Program;
use steading_sys::processes::{ExitWatch, Processes};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, mpsc};

use super::error::LibvirtError;
use crate::image::ImageCache;

/// The program, and the Debian packages that have it and its driver.
const PROGRAM: &str = "libvirtd";
const PACKAGES: &str = "libvirt-daemon libvirt-daemon-driver-qemu";

/// Where the daemon says that it serves, in the private directory (sd_notify(3)).
const NOTIFY: &str = "libvirt.notify";

/// How it is to be with QEMU (`qemu.conf`). There is no `virtlogd`: QEMU writes its files itself. A core of
/// QEMU has all of a guest's memory. No security driver: it would want to be root.
const QEMU_CONF: &str = "stdio_handler = \"file\"\nmax_core = 0\nsecurity_driver = \"none\"\n";

/// The daemon of a group. It is started again when it is needed and has ended.
#[derive(Debug)]
pub(super) struct Daemon {
    env: Vec<(String, String)>,
    /// The file it writes its log to.
    log_file: Utf8PathBuf,
    ready: UnixDatagram,
    processes: Processes,
    warnings: mpsc::UnboundedSender<String>,
    running: Mutex<Option<ExitWatch>>,
}

/// How clients reach it.
pub(super) fn uri(paths: &DomainPaths) -> String {
    format!("qemu:///session?socket={}", libvirt_socket(&paths.directory()))
}

impl Daemon {
    /// Writes its configuration.
    pub(super) fn new(
        paths: &DomainPaths,
        directory: &Utf8Path,
        logs: &Utf8Path,
        processes: Processes,
        warnings: mpsc::UnboundedSender<String>,
    ) -> Result<Self, LibvirtError> {
        let log_file = logs.join("libvirtd.log");
        let write = || {
            for kind in ["run", "config/libvirt", "cache/libvirt/qemu", "data"] {
                fs::create_dir_all(directory.join(kind))?;
            }
            if let Some(kept) = kept_capabilities() {
                fs_err::os::unix::fs::symlink(kept, directory.join("cache/libvirt/qemu/cache"))?;
            }
            // What QEMU says, by domain.
            fs_err::os::unix::fs::symlink(logs, directory.join("cache/libvirt/qemu/log"))?;
            fs::write(directory.join("config/libvirt/qemu.conf"), QEMU_CONF)?;
            // Warnings and errors.
            let text = format!("log_outputs = \"3:file:{log_file}\"\n");
            fs::write(directory.join("config/libvirt/libvirtd.conf"), text)
        };
        write().map_err(LibvirtError::io("write the configuration"))?;
        let ready = listen(&directory.join(NOTIFY)).map_err(LibvirtError::io("listen"))?;
        let own = paths.directory();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let env = vec![
            variable("HOME", own.clone()),
            variable("XDG_RUNTIME_DIR", format!("{own}/run")),
            variable("XDG_CONFIG_HOME", format!("{own}/config")),
            variable("XDG_CACHE_HOME", format!("{own}/cache")),
            variable("XDG_DATA_HOME", format!("{own}/data")),
            variable("NOTIFY_SOCKET", format!("{own}/{NOTIFY}")),
        ];
        Ok(Self { env, log_file, ready, processes, warnings, running: Mutex::new(None) })
    }

    /// Starts it unless it runs, and waits until it serves.
    pub(super) async fn ensure(&self) -> Result<(), LibvirtError> {
        let mut running = self.running.lock().await;
        match &*running {
            Some(exit) if !exit.has_ended() => return Ok(()),
            Some(_) => {
                // Nobody reads it when the group is ending.
                let _ = self.warnings.send("libvirt's daemon has ended, and is started again".to_owned());
            }
            None => {}
        }
        let program = Program {
            argv: vec![PROGRAM.to_owned()],
            package: Some(PACKAGES),
            env: self.env.clone(),
            cwd: None,
            fds: Vec::new(),
            network_capabilities: false,
        };
        let (started, mut exit) = self.processes.start(|| program.start(), |started| started.pid)?;
        let failed = || LibvirtError::io("hear from its daemon");
        let mut message = [0; 256];
        loop {
            tokio::select! {
                received = self.ready.recv(&mut message) => {
                    let length = received.map_err(failed())?;
                    if message[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                        break;
                    }
                }
                exit = exit.ended() => {
                    let mut said = String::new();
                    let mut errors = pipe::Receiver::from_owned_fd(started.stderr.into()).map_err(failed())?;
                    errors.read_to_string(&mut said).await.map_err(failed())?;
                    let said = if said.trim().is_empty() { said } else { format!("\n{}", said.trim()) };
                    return Err(LibvirtError::Daemon { exit, said, log: self.log_file.clone() });
                }
            }
        }
        *running = Some(exit);
        Ok(())
    }
}

/// Where libvirt keeps what it found out about this host's QEMU, which takes it a second or two: among the
/// images, for all groups of this user. It asks again when QEMU has changed. None where that cannot be had,
/// or is somebody else's.
fn kept_capabilities() -> Option<Utf8PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let directory = ImageCache::default_dir().join(format!("libvirt-{uid}"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    let found = fs::symlink_metadata(&directory).ok()?;
    (found.is_dir() && found.uid() == uid).then_some(directory)
}

fn listen(path: &Utf8Path) -> std::io::Result<UnixDatagram> {
    let socket = StdDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}
