//! Becomes the group's router daemon.

use std::ffi::CStr;
use std::io::Write as _;

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use steading_plan::LaunchRequest;
use steading_sys::exec::become_program;

use crate::caller;

/// Where distributions have it. Neither is the caller's to choose.
const PROGRAMS: [&CStr; 2] = [c"/usr/sbin/dnsmasq", c"/usr/bin/dnsmasq"];

/// Its arguments: it stays, reads its configuration from standard input, and writes no file.
const ARGUMENTS: [&CStr; 4] = [c"dnsmasq", c"--keep-in-foreground", c"--conf-file=-", c"--pid-file="];

/// Returns only with an error. The daemon ends with who started this, which holds the other end of standard
/// input until then.
pub(crate) fn become_router(request: &LaunchRequest) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask to end with the driver")?;
    // The kernel tells of the driver's end from now on; of one before, it never would.
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).context("cannot look at standard input")?;
    ensure!(!polled[0].revents().contains(PollFlags::HUP), "the driver has ended");
    let configuration =
        memfd_create(c"dnsmasq.conf", MemfdFlags::CLOEXEC).context("cannot make a file in memory")?;
    let mut file = std::fs::File::from(configuration);
    file.write_all(request.dnsmasq().as_bytes()).context("cannot write the configuration")?;
    std::io::Seek::rewind(&mut file).context("cannot rewind the configuration")?;
    rustix::stdio::dup2_stdin(&file).context("cannot hand down the configuration")?;
    caller::hand_down()?;
    let mut refused = None;
    for program in PROGRAMS {
        let error = become_program(program, &ARGUMENTS, &[]);
        if error.kind() != std::io::ErrorKind::NotFound {
            refused = Some(error);
        }
    }
    match refused {
        Some(error) => Err(error).context("cannot start dnsmasq"),
        None => bail!(
            "there is no dnsmasq in /usr/sbin or /usr/bin\nhint: on Debian: apt-get install dnsmasq-base"
        ),
    }
}
