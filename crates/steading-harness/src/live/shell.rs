//! Commands and shells in guests, with this program's input and output.

use anyhow::Context as _;
use fs_err as fs;
use russh::ChannelMsg;
use rustix::process::{Pid, Signal};
use steading_sys::namespace;
use steading_sys::signal::Signals;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::live::find::LiveGroup;
use crate::live::terminal::{self, Raw};
use crate::ssh::Ssh;

/// What a shell says of a command whose end is not told.
const UNKNOWN: u8 = 255;

enum Wanted<'a> {
    Shell,
    Command(&'a str),
}

/// Runs a command; the exit status is the command's.
pub(crate) fn execute(group: &LiveGroup, vm: &str, command: &str) -> anyhow::Result<u8> {
    run(group, vm, &Wanted::Command(command))
}

/// Opens a shell.
pub(crate) fn open(group: &LiveGroup, vm: &str) -> anyhow::Result<u8> {
    run(group, vm, &Wanted::Shell)
}

fn run(group: &LiveGroup, vm: &str, wanted: &Wanted) -> anyhow::Result<u8> {
    let address = super::wait_for(group.vm_that_runs(vm))?.address;
    enter(group)?;
    super::wait_for(async {
        let connected = Ssh::connect(address, &group.status.ssh_key).await;
        let ssh = connected.with_context(|| {
            format!("VM {vm}: cannot log in\nhint: `console {vm}` shows how far it has come")
        })?;
        session(&ssh, wanted).await
    })
}

/// Enters the group's network, unless this program runs in it.
pub(crate) fn enter(group: &LiveGroup) -> anyhow::Result<()> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    let owner = Pid::from_raw(group.owner).context("the group has no owner")?;
    if network("self")? == network(&group.owner.to_string())? {
        return Ok(());
    }
    namespace::enter_network(owner)
        .with_context(|| format!("cannot enter the network of the group {}", group.name()))
}

async fn session(ssh: &Ssh, wanted: &Wanted<'_>) -> anyhow::Result<u8> {
    let mut channel = ssh.open().await?;
    let _raw = match wanted {
        Wanted::Command(command) => {
            channel.exec(true, *command).await?;
            None
        }
        Wanted::Shell => {
            let (columns, rows) = terminal::size();
            channel.request_pty(false, &terminal::kind(), columns, rows, 0, 0, &[]).await?;
            channel.request_shell(true).await?;
            Raw::enter()?
        }
    };
    let resized = Signals::open(&[Signal::WINCH])?;
    let (mut stdin, mut stdout, mut stderr) = (tokio::io::stdin(), tokio::io::stdout(), tokio::io::stderr());
    let (mut buffer, mut input_ended, mut status) = (vec![0; 16 * 1024], false, UNKNOWN);
    loop {
        tokio::select! {
            read = stdin.read(&mut buffer), if !input_ended => match read? {
                0 => {
                    input_ended = true;
                    channel.eof().await?;
                }
                // A command that has ended takes no input any more.
                read => if channel.data(&buffer[..read]).await.is_err() { input_ended = true },
            },
            signal = resized.next() => {
                signal?;
                let (columns, rows) = terminal::size();
                channel.window_change(columns, rows, 0, 0).await?;
            }
            message = channel.wait() => match message {
                None => break,
                Some(ChannelMsg::Data { data }) => {
                    stdout.write_all(&data).await?;
                    stdout.flush().await?;
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    stderr.write_all(&data).await?;
                    stderr.flush().await?;
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    status = u8::try_from(exit_status).unwrap_or(UNKNOWN);
                }
                Some(_) => {}
            },
        }
    }
    Ok(status)
}
