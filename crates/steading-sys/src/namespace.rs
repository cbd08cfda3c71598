//! Enters the namespaces of a group: user, network, PID and mount, all at once.
//!
//! The child of [`spawn`] is PID 1 of its own PID namespace. When it ends, for whatever reason, the
//! kernel ends every process below it (pid_namespaces(7)) and frees the network namespace with its
//! bridge, TAPs and addresses. It is made by one clone3(2) with no exec, so the caller must have
//! one thread only: another might hold a lock that nobody in the child would ever release.

use std::io;
use std::os::fd::{AsFd as _, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use camino::Utf8Path;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags};
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use thiserror::Error;

use crate::capability;

/// The uid and gid inside for a caller who is root outside. Any but 0: dnsmasq gives up its
/// privileges where it sees uid 0, and libvirt takes it for the system's own mode.
const INNER_ID_OF_ROOT: u32 = 1000;

/// Why a group's namespaces cannot be had.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The process has threads.
    #[error(
        "cannot enter namespaces with {0} threads running\nhint: this is a mistake in the program: enter them first thing in main"
    )]
    Threads(usize),
    /// The kernel refuses.
    #[error(
        "cannot make a user, network, PID and mount namespace: {source}\nhint: {hint}\nhint: where that is not to be, the launcher does without (docs/guide/launcher.md)"
    )]
    Refused {
        /// The operating system's reason.
        source: io::Error,
        /// Which switch to turn.
        hint: String,
    },
}

/// What went wrong inside, after the namespaces were made.
#[derive(Debug, Error)]
#[error("cannot set up the group's first process: {step}")]
pub struct SetupError {
    /// What was tried.
    pub(crate) step: &'static str,
    /// The operating system's reason.
    pub(crate) source: io::Error,
}

/// The first process of new namespaces, seen from outside.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace.
    pub pid: Pid,
    /// A file descriptor that refers to it (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

/// Starts `body` as the first process of new namespaces; it ends with the status that `body` gives.
///
/// `body` must call [`set_up`] before it does anything else.
///
/// # Errors
///
/// When the process has more than one thread, or when the kernel refuses.
pub fn spawn(body: impl FnOnce() -> u8) -> Result<Child, NamespaceError> {
    clone(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWNS, body)
}

/// Starts `body` as a process with a copy of this one's memory, in these new namespaces.
pub(crate) fn clone(flags: libc::c_int, body: impl FnOnce() -> u8) -> Result<Child, NamespaceError> {
    let threads = thread_count();
    if threads != 1 {
        return Err(NamespaceError::Threads(threads));
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeros is a valid clone_args (clone(2)): no stack, so the child goes on with a copy
    // of the caller's.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD).cast_unsigned().into();
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    // SAFETY: the arguments are valid for the length given. Without CLONE_VM the child has its own
    // copy of memory, and the caller has one thread, so no lock is held by a thread left behind.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => {
            let source = io::Error::last_os_error();
            Err(NamespaceError::Refused { hint: refusal_hint(&source), source })
        }
        0 => {
            // The child must not unwind into the caller's frames, nor run its exit handlers.
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: _exit(2) has no preconditions.
            unsafe { libc::_exit(status.into()) }
        }
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("clone3 returns a PID");
            // SAFETY: the kernel has just opened this descriptor for the caller (CLONE_PIDFD).
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

/// Enters the user and network namespaces of a process, which must be this user's own (setns(2)).
///
/// # Errors
///
/// When this process has more than one thread, when there is no such process, or it is not ours.
pub fn enter_network(process: Pid) -> io::Result<()> {
    let threads = thread_count();
    if threads != 1 {
        return Err(io::Error::other(NamespaceError::Threads(threads)));
    }
    let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
    Ok(move_into_thread_name_spaces(pidfd.as_fd(), both)?)
}

/// The caller, as it is seen outside: to be taken before [`spawn`] and given to [`set_up`].
#[derive(Debug)]
pub struct Identity {
    uid: u32,
    gid: u32,
    /// Refers to the process (pidfd_open(2)); its number means nothing in another PID namespace.
    pidfd: OwnedFd,
}

impl Identity {
    /// That of this process.
    ///
    /// # Errors
    ///
    /// When no descriptor can be opened.
    pub fn current() -> Result<Self, SetupError> {
        let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(|error| SetupError { step: "refer to this process", source: error.into() })?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self { uid, gid, pidfd })
    }

    /// Asks for this process's end when that one ends, from inside of what that one has spawned.
    pub(crate) fn end_with(&self) -> Result<(), SetupError> {
        let kill = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(kill)
            .map_err(|error| SetupError { step: "ask to end with the parent", source: error.into() })?;
        // The kernel tells of the parent's end from now on; of one before, it never would.
        if self.has_ended() {
            let source = io::ErrorKind::NotFound.into();
            return Err(SetupError { step: "go on without a parent", source });
        }
        Ok(())
    }

    /// Whether the process has ended: its pidfd is readable then (pidfd_open(2)).
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // With a time limit of nothing it is not interrupted.
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
    }
}

/// Finishes what [`spawn`] began, from inside: maps the ids, makes mounts private, shows the new
/// PID namespace in `/proc`, keeps three capabilities, and ties this process's life to its parent's.
///
/// Returns a directory on a tmpfs of its own that is mounted nowhere, hence has no name on the host;
/// or at `place`, a directory, where only processes of these namespaces see it.
///
/// # Errors
///
/// When any step fails but the one that a sandbox may forbid: mounting a new `/proc`. When the
/// parent has ended already.
pub fn set_up(outer: &Identity, place: Option<&Utf8Path>) -> Result<OwnedFd, SetupError> {
    let failed = |step| move |source: io::Error| SetupError { step, source };
    let inner = |id| if id == 0 { INNER_ID_OF_ROOT } else { id };
    // A process may only give up setgroups(2) for good before it maps a group (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").map_err(failed("deny setgroups"))?;
    let map = |id: u32| format!("{} {id} 1", inner(id));
    fs::write("/proc/self/uid_map", map(outer.uid)).map_err(failed("map the user id"))?;
    fs::write("/proc/self/gid_map", map(outer.gid)).map_err(failed("map the group id"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| failed("make mounts private")(e.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // In a container that hides parts of /proc the kernel refuses a whole one; the old one serves.
    let _ = rustix::mount::mount("proc", "/proc", "proc", flags, None);
    let directory = private_directory().map_err(|e| failed("make a private tmpfs")(e.into()))?;
    if let Some(place) = place {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&directory, "", CWD, place.as_std_path(), flags)
            .map_err(|e| failed("mount a private tmpfs")(e.into()))?;
    }
    rustix::process::setsid().map_err(|e| failed("leave the terminal's session")(e.into()))?;
    capability::keep_network_only().map_err(failed("keep three capabilities"))?;
    outer.end_with()?;
    Ok(directory)
}

/// A directory on a tmpfs of its own that is mounted nowhere: it has no name on the host and is
/// gone with the last process that holds it open (fsmount(2)).
fn private_directory() -> Result<OwnedFd, rustix::io::Errno> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "mode", "0700")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Which switch of the host forbids user namespaces, as far as it can be told.
fn refusal_hint(error: &io::Error) -> String {
    let switch = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if switch("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "this kernel keeps user namespaces for root; as root: \
                sysctl -w kernel.unprivileged_userns_clone=1"
            .to_owned();
    }
    for kind in ["user", "net", "pid", "mnt"] {
        if switch(&format!("/proc/sys/user/max_{kind}_namespaces")).as_deref() == Some("0") {
            return format!(
                "the host allows no {kind} namespaces; as root: sysctl -w user.max_{kind}_namespaces=10000"
            );
        }
    }
    if switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "AppArmor restricts user namespaces (Ubuntu 23.10 and later); as root: \
                sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned();
    }
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "too many namespaces exist, or they are nested too deeply (32 levels); \
             see /proc/sys/user/max_*_namespaces"
            .to_owned(),
        Some(libc::EPERM) => {
            "a sandbox or container around this program forbids it, or it runs in a chroot; \
             for docker or podman: --security-opt seccomp=unconfined"
                .to_owned()
        }
        Some(libc::EINVAL | libc::ENOSYS) => {
            "the kernel is built without one of CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_PID_NS; \
             Linux 5.8 or later with all of them is needed"
                .to_owned()
        }
        _ => "run `steading doctor` to see what this host can do".to_owned(),
    }
}

/// Whether a group's namespaces can be had here, tried by making some that end at once.
///
/// # Errors
///
/// The refusal, as a group would meet it.
pub fn probe() -> Result<(), NamespaceError> {
    probe_with(|| true).map(|_| ())
}

/// What comes of this in namespaces that can be had here, and end at once: true or false.
///
/// # Errors
///
/// The refusal, as a group would meet it.
pub fn probe_with(body: impl FnOnce() -> bool) -> Result<bool, NamespaceError> {
    const NO: u8 = 9;
    let refused = |source| NamespaceError::Refused {
        source,
        hint: "a security module may forbid mounting or capabilities inside user namespaces; \
               see the kernel's log"
            .to_owned(),
    };
    let identity = Identity::current().map_err(|error| refused(error.source))?;
    let child = spawn(move || match set_up(&identity, None) {
        Ok(_) => u8::from(!body()) * NO,
        Err(_) => 1,
    })?;
    let status = rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty());
    match status {
        Ok(Some((_, status))) if status.exit_status() == Some(0) => Ok(true),
        Ok(Some((_, status))) if status.exit_status() == Some(NO.into()) => Ok(false),
        _ => Err(refused(io::Error::other("they were made, and could not be set up"))),
    }
}
