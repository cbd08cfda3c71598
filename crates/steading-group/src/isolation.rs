//! How a group is kept apart from all else, and what is left of those whose driver was killed.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::{Access, AtFlags, CWD, Mode};
use rustix::io::Errno;
use rustix::process::Signal;
use steading_plan::{LaunchError, LaunchRequest, Plan, ProcessMark, env_vars};
use steading_sys::mark::{self, Life};
use steading_sys::process::{RunError, run};
use steading_sys::{beside, namespace};
use thiserror::Error;

/// What the launcher is called.
const LAUNCHER: &str = "steading-launcher";

/// Where its file capabilities are (capabilities(7), `linux/xattr.h`).
const CAPABILITIES: &str = "security.capability";

/// Before a user's number: the directory that has those of all their groups without namespaces.
const DIRECTORY: &str = "steading-";

/// How long a process that was killed may take to be gone.
const MOMENT: Duration = Duration::from_secs(5);

/// How a group is kept apart from all else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// By namespaces of its own.
    #[default]
    Namespaces,
    /// Not at all: by names in the host's namespaces, where this launcher makes its network.
    Launcher(Utf8PathBuf),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedIsolation {
    /// Namespaces, or the launcher where they are not to be had and it is there.
    #[default]
    Auto,
    /// Namespaces.
    Namespaces,
    /// The launcher.
    Launcher,
}

/// A word that names no isolation.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("there is no isolation {0:?}\nhint: it is auto, namespaces or launcher")]
pub struct ParseIsolationError(String);

/// Why a group cannot be had with the launcher.
#[derive(Debug, Error)]
pub enum IsolationError {
    /// It is not there.
    #[error(
        "there is no launcher\nhint: {} is looked for next to this program and on PATH, or named by {}; docs/guide/launcher.md says how to install it",
        LAUNCHER,
        env_vars::STEADING_LAUNCHER
    )]
    NoLauncher,
    /// It does not work.
    #[error("the launcher {launcher} cannot be used")]
    Unusable {
        /// Where it is.
        launcher: Utf8PathBuf,
        /// What it says.
        source: RunError,
    },
    /// Something that it cannot do.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// There is no place for the group's directory.
    #[error(
        "cannot use {directory} for the directories of groups: {why}\nhint: set XDG_RUNTIME_DIR to a directory of your own"
    )]
    Directory {
        /// Which.
        directory: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl WantedIsolation {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Namespaces, Self::Launcher];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Namespaces => "namespaces",
            Self::Launcher => "launcher",
        }
    }
}

impl fmt::Display for WantedIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WantedIsolation {
    type Err = ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|wanted| wanted.as_str() == text);
        found.ok_or_else(|| ParseIsolationError(text.to_owned()))
    }
}

impl Isolation {
    /// Chooses what is available here of what is asked for. The caller must have one thread.
    ///
    /// # Errors
    ///
    /// When it is the launcher that is asked for, and it cannot be used. That there are no namespaces shows
    /// when they are made.
    pub fn choose(wanted: WantedIsolation) -> Result<Self, IsolationError> {
        let launcher = match wanted {
            WantedIsolation::Namespaces => return Ok(Self::Namespaces),
            WantedIsolation::Launcher => find_launcher().ok_or(IsolationError::NoLauncher)?,
            WantedIsolation::Auto => match find_launcher() {
                // On most hosts it has no capabilities, and nothing is tried.
                Some(launcher) if has_capabilities(&launcher) && namespace::probe().is_err() => launcher,
                _ => return Ok(Self::Namespaces),
            },
        };
        match run(launcher.as_str(), "steading", ["check"]) {
            Ok(_) => Ok(Self::Launcher(launcher)),
            Err(source) => Err(IsolationError::Unusable { launcher, source }),
        }
    }

    /// Refuses a plan that cannot be made real so.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, plan: &Plan) -> Result<(), IsolationError> {
        match self {
            Self::Namespaces => Ok(()),
            Self::Launcher(_) => Ok(LaunchRequest::of(plan).map(drop)?),
        }
    }

    /// Why groups cannot be forked so; none where they can.
    pub const fn no_forks(&self) -> Option<&'static str> {
        match self {
            Self::Namespaces => None,
            Self::Launcher(_) => Some(
                "without namespaces there is one network for all, in which a fork would have the addresses of the group that it is a fork of",
            ),
        }
    }
}

/// The launcher, if there is one.
pub fn find_launcher() -> Option<Utf8PathBuf> {
    if let Some(named) = std::env::var(env_vars::STEADING_LAUNCHER).ok().filter(|named| !named.is_empty()) {
        return Some(Utf8PathBuf::from(named));
    }
    let own = std::env::current_exe().ok().and_then(|own| Utf8PathBuf::try_from(own).ok());
    let beside = own.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
    let path = std::env::var(env_vars::PATH).unwrap_or_default();
    let directories =
        beside.into_iter().chain(path.split(':').filter(|dir| !dir.is_empty()).map(Utf8PathBuf::from));
    let is_program = |path: &Utf8PathBuf| {
        path.is_file()
            && rustix::fs::accessat(CWD, path.as_std_path(), Access::EXEC_OK, AtFlags::empty()).is_ok()
    };
    directories.map(|directory| directory.join(LAUNCHER)).find(is_program)
}

/// Whether it has file capabilities. Those that this user namespace does not understand count too
/// (`EOVERFLOW`, xattr(7)).
pub fn has_capabilities(launcher: &Utf8Path) -> bool {
    let mut value = [0_u8; 64];
    let read = rustix::fs::getxattr(launcher.as_std_path(), CAPABILITIES, &mut value[..]);
    !matches!(read, Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT))
}

/// The directory for those of this user's groups, which is made if it is not there.
pub(crate) fn directory() -> Result<Utf8PathBuf, IsolationError> {
    let runtime = std::env::var(env_vars::XDG_RUNTIME_DIR).ok().filter(|dir| dir.starts_with('/'));
    let directory = own_directory(runtime.as_deref().unwrap_or(SHARED));
    let failed = |why: String| IsolationError::Directory { directory: directory.clone(), why };
    match rustix::fs::mkdir(directory.as_std_path(), Mode::RWXU) {
        Ok(()) => return Ok(directory),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    // In a directory that all may write to, somebody may have made it before.
    let found = fs::symlink_metadata(&directory).map_err(|error| failed(error.to_string()))?;
    let is_ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & OTHERS == 0;
    if is_ours { Ok(directory) } else { Err(failed("it is not a directory of yours alone".to_owned())) }
}

/// What a group and all others may do with a file (inode(7)).
const OTHERS: u32 = 0o077;

/// Where everybody may make a directory.
const SHARED: &str = "/tmp";

fn own_directory(base: &str) -> Utf8PathBuf {
    Utf8Path::new(base).join(format!("{DIRECTORY}{}", rustix::process::geteuid().as_raw()))
}

/// What was removed of groups without namespaces whose drivers were killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many processes.
    pub processes: usize,
    /// Directories.
    pub directories: Vec<Utf8PathBuf>,
    /// Interfaces.
    pub interfaces: Vec<String>,
}

impl Collected {
    /// Whether there was anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes what is left of this user's groups without namespaces whose drivers were killed: processes,
/// directories, and, where there is a launcher, interfaces.
///
/// # Errors
///
/// When the launcher fails.
pub fn collect(launcher: Option<&Utf8Path>) -> Result<Collected, IsolationError> {
    let mut collected = Collected::default();
    loop {
        // One may have started another meanwhile.
        let outlived = beside::outlived();
        let killed = outlived.iter().filter(|pid| rustix::process::kill_process(**pid, Signal::KILL).is_ok());
        let count = killed.count();
        collected.processes += count;
        if count == 0 {
            break;
        }
        for pid in outlived {
            beside::wait_at_most(pid, MOMENT);
        }
    }
    let runtime = std::env::var(env_vars::XDG_RUNTIME_DIR).ok();
    for base in runtime.as_deref().into_iter().chain([SHARED]) {
        let entries = fs::read_dir(own_directory(base)).into_iter().flatten().flatten();
        let paths = entries.filter_map(|entry| Utf8PathBuf::try_from(entry.path()).ok());
        for path in paths.filter(|path| path.file_name().is_some_and(is_left)) {
            if fs::remove_dir_all(&path).is_ok() {
                collected.directories.push(path);
            }
        }
    }
    if let Some(launcher) = launcher {
        let failed = |source| IsolationError::Unusable { launcher: launcher.to_owned(), source };
        let said = run(launcher.as_str(), "steading", ["gc"]).map_err(failed)?;
        collected.interfaces = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
    }
    Ok(collected)
}

/// Whether a directory of this name is that of a process that has ended.
fn is_left(name: &str) -> bool {
    name.parse::<ProcessMark>().is_ok_and(|mark| mark::life(&mark) == Life::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for wanted in WantedIsolation::ALL {
            assert_eq!(wanted.to_string().parse(), Ok(wanted));
        }
        assert!("none".parse::<WantedIsolation>().is_err());
    }

    #[test]
    fn the_directory_of_a_process_that_lives_is_not_left() {
        let own = mark::current().unwrap();
        assert!(!is_left(&own.to_string()));
        assert!(is_left(&ProcessMark { start: own.start + 1, ..own }.to_string()));
        assert!(!is_left("something") && !is_left(&ProcessMark { namespace: 1, ..own }.to_string()));
    }
}
