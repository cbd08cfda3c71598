//! Chooses between the host's KVM and emulation, by trying.
//!
//! That `/dev/kvm` opens, and even that it makes VMs, proves nothing: on hosts that are VMs
//! themselves a stock kernel may never get going. So `auto` boots a kernel under KVM, with no disk
//! and no initrd, and waits for it to complain that it finds no root file system: by then it has
//! been through all that is hard. The answer is remembered for as long as the host runs, under a
//! key of all that it depends on.
//!
//! The firmware alone is no proof: on this project's own machines SeaBIOS gets to "No bootable
//! device" under KVM in seconds, and no kernel ever says a word. So where there is no kernel to
//! try, emulation is used, and the reason says so.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use steading_plan::{Acceleration, env_vars};
use steading_sys::process::Program;

use super::remembered::{Remembered, installed_qemu};
use super::{QEMU, QEMU_PACKAGE};

/// How long a kernel may take under KVM. One that works needs less than a second; more is given
/// for hosts under load, since a wrong answer stays.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

/// What a kernel says last that has no root file system. It cannot get there without running well.
const REACHED: &[&str] =
    &["Unable to mount root fs", "No working init found", "VFS: Cannot open root device"];

/// A choice, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccelerationChoice {
    /// What to use.
    pub acceleration: Acceleration,
    /// Why, for people.
    pub reason: String,
}

impl AccelerationChoice {
    fn tcg(reason: impl Into<String>) -> Self {
        Self { acceleration: Acceleration::Tcg, reason: reason.into() }
    }
}

/// Chooses, by a probe whose answer is remembered in `cache` while this host runs.
///
/// `$STEADING_ACCEL` set to `kvm` or `tcg` decides without a probe. `kernel` is one to try; without
/// one the host's own is, where it may be read.
pub fn choose_acceleration(cache: &Utf8Path, kernel: Option<&Utf8Path>) -> AccelerationChoice {
    match std::env::var(env_vars::STEADING_ACCEL).as_deref() {
        Ok("tcg") => return AccelerationChoice::tcg("STEADING_ACCEL=tcg"),
        Ok("kvm") => {
            let reason = "STEADING_ACCEL=kvm".to_owned();
            return AccelerationChoice { acceleration: Acceleration::Kvm, reason };
        }
        _ => {}
    }
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return AccelerationChoice::tcg(match error.kind() {
            std::io::ErrorKind::NotFound => "this host has no /dev/kvm".to_owned(),
            _ => format!("{error}; members of the group kvm may usually open it"),
        });
    }
    // A kernel that is missing is somebody else's error to tell, and proves nothing about KVM.
    let given = kernel.filter(|kernel| kernel.is_file()).map(Utf8Path::to_owned);
    let Some(kernel) = given.or_else(host_kernel) else {
        return AccelerationChoice::tcg(
            "/dev/kvm opens, but there is no kernel to try it with; STEADING_ACCEL=kvm uses it untried",
        );
    };
    let kernel = kernel.as_path();
    let remembered = Remembered::new(cache, "kvm", &key(kernel));
    if let Some(mut choice) = remembered.recall::<AccelerationChoice>() {
        choice.reason.push_str(" (remembered)");
        return choice;
    }
    let choice = probe_kvm(kernel);
    remembered.keep(&choice);
    choice
}

/// The kernel that the host itself runs. Some distributions keep it for root.
fn host_kernel() -> Option<Utf8PathBuf> {
    let release = steading_sys::sysctl::read("kernel/osrelease").ok()?;
    let file = Utf8PathBuf::from(format!("/boot/vmlinuz-{release}"));
    fs::File::open(&file).ok().map(|_| file)
}

/// Everything that the answer depends on: this boot of the host, its kernel, QEMU, what is booted.
fn key(kernel: &Utf8Path) -> String {
    let boot = steading_sys::sysctl::read("kernel/random/boot_id").unwrap_or_default();
    let release = steading_sys::sysctl::read("kernel/osrelease").unwrap_or_default();
    let qemu = installed_qemu();
    let changed = fs::metadata(kernel).and_then(|data| data.modified()).ok();
    // Build systems give each action a link of its own to the same file.
    let kernel = kernel.canonicalize_utf8().unwrap_or_else(|_| kernel.to_owned());
    format!("{boot} {release} {qemu} {kernel} {changed:?}")
}

/// Boots this kernel under KVM, and says what came of it.
fn probe_kvm(kernel: &Utf8Path) -> AccelerationChoice {
    let began = Instant::now();
    let said = boot(kernel, began + PROBE_LIMIT);
    let seconds = began.elapsed().as_secs_f32();
    match said {
        Ok(text) if has_reached(&text) => AccelerationChoice {
            acceleration: Acceleration::Kvm,
            reason: format!("a kernel booted under KVM in {seconds:.1} s"),
        },
        Ok(text) => {
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            let last =
                last.map_or_else(|| "and said nothing".to_owned(), |line| format!("and last said {line:?}"));
            AccelerationChoice::tcg(format!(
                "/dev/kvm opens, but a kernel did not boot under KVM within {seconds:.1} s {last}"
            ))
        }
        Err(error) => AccelerationChoice::tcg(format!("/dev/kvm opens, but could not be tried: {error}")),
    }
}

fn has_reached(text: &str) -> bool {
    REACHED.iter().any(|wanted| text.contains(wanted))
}

/// Returns what came from the console until a wanted text, the end of QEMU, or the end of time.
fn boot(kernel: &Utf8Path, end: Instant) -> Result<String, steading_sys::process::RunError> {
    let argv = [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-machine",
        "q35,accel=kvm",
        "-cpu",
        "host",
        "-m",
        "256M",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-kernel",
        kernel.as_str(),
        "-append",
        "console=ttyS0 panic=-1",
    ]
    .map(str::to_owned)
    .into();
    let program = Program {
        argv,
        package: Some(QEMU_PACKAGE),
        env: Vec::new(),
        cwd: None,
        fds: Vec::new(),
        network_capabilities: false,
    };
    let mut started = program.start()?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).ok();
        let mut wait = [PollFd::from_borrowed_fd(started.stdout.as_fd(), PollFlags::IN)];
        let ready = poll(&mut wait, timeout.as_ref()).unwrap_or(0);
        let read = if ready == 0 { 0 } else { started.stdout.read(&mut buffer).unwrap_or(0) };
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if has_reached(&text) {
            break;
        }
    }
    super::kill(started.pid);
    let _ = rustix::process::waitpid(Some(started.pid), rustix::process::WaitOptions::empty());
    let mut errors = String::new();
    let _ = started.stderr.read_to_string(&mut errors);
    text.push_str(&errors);
    Ok(text)
}
