//! Where the owner of a group is: its namespaces, and what it holds open there.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use camino::Utf8PathBuf;
use fs_err as fs;
use rustix::io::FdFlags;
use rustix::process::Pid;
use steading_api::DIRECTORY_FD;
use steading_broker::LEASE_FD;
use steading_sys::beside;
use steading_sys::namespace::{self, Identity};

use crate::GroupError;
use crate::config::GroupConfig;
use crate::isolation::{self, Isolation};
use crate::launched::REMOVAL;

/// Where the owner is, and what it holds open.
pub(crate) struct Surroundings {
    _directory: OwnedFd,
    _lease: Option<OwnedFd>,
    /// The private directory, where it has a name.
    named: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn set_up(
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
    pub(crate) fn leave(self, keeper: Option<Pid>) {
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
