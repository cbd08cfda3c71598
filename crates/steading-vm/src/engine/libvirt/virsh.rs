//! libvirt is spoken to by `virsh`: its protocol is its own, and its library would have to be there for
//! every user of this one.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use steading_sys::process::{Exit, Program};
use steading_sys::processes::Processes;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::CLIENTS;
use super::error::LibvirtError;

/// Runs one command of virsh; what it printed.
pub(super) async fn run(
    processes: &Processes,
    uri: &str,
    words: &[&str],
    input: &str,
) -> Result<String, LibvirtError> {
    let options = ["virsh", "--quiet", "--connect", uri];
    let argv = options.iter().chain(words).map(|&word| word.to_owned());
    let program = Program {
        argv: argv.collect(),
        package: Some(CLIENTS),
        // What it says is looked at.
        env: vec![("LC_ALL".to_owned(), "C".to_owned())],
        cwd: None,
        fds: Vec::new(),
        network_capabilities: false,
    };
    let (mut started, mut exit) = processes.start(|| program.start(), |started| started.pid)?;
    // A pipe holds 64 KiB; a larger domain is taken as virsh reads it. One that has ended says why.
    let _ = started.stdin.write_all(input.as_bytes());
    drop(started.stdin);
    let failed = || LibvirtError::io("read what virsh says");
    let (said, complained) =
        tokio::try_join!(all(started.stdout.into()), all(started.stderr.into())).map_err(failed())?;
    match exit.ended().await {
        Exit::Status(0) => Ok(said),
        Exit::Status(_) => {
            let said = complained.trim().trim_start_matches("error: ").replace("\nerror: ", ": ");
            Err(LibvirtError::Refused { command: words.join(" "), said })
        }
        Exit::Signal(signal) => {
            let said = format!("it was ended by signal {signal}");
            Err(LibvirtError::Refused { command: words.join(" "), said })
        }
    }
}

async fn all(stream: OwnedFd) -> std::io::Result<String> {
    let mut text = String::new();
    pipe::Receiver::from_owned_fd(stream)?.read_to_string(&mut text).await?;
    Ok(text)
}
