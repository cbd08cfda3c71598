//! The command `virsh`.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use camino::Utf8Path;
use clap::Args;
use steading_plan::{Engine, libvirt_socket};
use steading_report::output::Stdout;

use crate::exit_code;
use crate::groups::LiveGroup;

/// The Debian package of `virsh`.
const PACKAGE: &str = "libvirt-clients";

/// Arguments of `virsh`.
#[derive(Args, Clone, Debug)]
pub struct VirshArgs {
    /// Print the URI of the group's libvirt instead, for other clients.
    #[arg(long)]
    uri: bool,
    /// Reach it over SSH: name of this machine, such as me@host.
    #[arg(long, value_name = "HOST")]
    ssh: Option<String>,
    /// Arguments for virsh, such as `list` or `dumpxml n1`; without any, virsh shows its prompt.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(group: &LiveGroup, args: &VirshArgs) -> anyhow::Result<u8> {
    let engine = group.status.plan.engine;
    ensure!(
        engine == Engine::Libvirt,
        "group {} has no libvirt: its engine is {engine}\nhint: bring it up with --engine libvirt",
        group.name()
    );
    let directory = group.client.endpoint().local_path().and_then(|path| Utf8Path::new(path).parent());
    let directory = directory.context("the group's libvirt is on another machine")?;
    let uri = uri(directory, args.ssh.as_deref());
    if args.uri {
        writeln!(Stdout, "{uri}")?;
        return Ok(exit_code::PASSED);
    }
    let words = ["--connect".to_owned(), uri].into_iter().chain(args.command.iter().cloned());
    Err(steading_sys::process::replace("virsh", PACKAGE, words).into())
}

/// A client sees the socket by the owner's descriptor, as it sees that of the control API.
fn uri(directory: &Utf8Path, host: Option<&str>) -> String {
    let (transport, host) = match host {
        Some(host) => ("+ssh", host),
        None => ("", ""),
    };
    format!("qemu{transport}://{host}/session?socket={}", libvirt_socket(directory.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_the_socket_here_or_behind_ssh() {
        let directory = Utf8Path::new("/proc/7/fd/900");
        let socket = "session?socket=/proc/7/fd/900/run/libvirt/libvirt-sock";
        assert_eq!(uri(directory, None), format!("qemu:///{socket}"));
        assert_eq!(uri(directory, Some("me@host")), format!("qemu+ssh://me@host/{socket}"));
    }
}
