//! The owner of a group, seen from outside: from the process that has started it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, WaitOptions};
use steading_broker::{Lease, Stub};
use steading_sys::beside;
use steading_sys::inherited::check_files;
use steading_sys::namespace::{self, Child, Identity};

use crate::GroupError;
use crate::config::GroupConfig;
use crate::isolation::{self, Isolation};
use crate::owner::{READY, run};

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
    let reserved = config.admission.message();
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
    /// [in a line](crate::in_a_line). Some of it may have been told before, as warnings.
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
