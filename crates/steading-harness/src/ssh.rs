//! Commands in guests over SSH, with the key that the group made for itself.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect, Sig};
use rustix::process::Signal;
use steading_api::CommandOutput;
use thiserror::Error;
use tokio::time::{timeout, timeout_at};

/// How long one attempt to connect may take: a guest under emulation needs a second or two for
/// its part of the key exchange, and its sshd may be starting.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Why a command could not run, or its end is not known.
#[derive(Debug, Error)]
pub(crate) enum SshError {
    /// The group's key is invalid.
    #[error("cannot read the group's SSH key")]
    Key(#[from] russh::keys::Error),
    /// The guest refuses the login.
    #[error(
        "the guest refuses the group's SSH key for root\nhint: check that the guest reads the systemd credential ssh.authorized_keys.root from SMBIOS (systemd 252 or later)"
    )]
    Refused,
    /// No server answers in time.
    #[error("no SSH server answered within {} s", CONNECT_LIMIT.as_secs())]
    NoAnswer,
    /// The protocol, or the connection.
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    /// The end of the command was not reported.
    #[error("the connection ended before the command did")]
    Cut,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) output: CommandOutput,
    /// Its output as it is.
    pub(crate) stdout: Vec<u8>,
    /// Something that it has started still holds its output.
    pub(crate) is_held: bool,
}

/// Once a command has ended: nothing that comes later than this after the last word is its own. What it
/// wrote itself is in a pipe of the guest by then, and sshd has nothing else to do than to send it, however
/// busy the host of an emulated guest is.
const QUIET: Duration = Duration::from_secs(5);

/// The same for what goes on and on.
const AT_MOST: Duration = Duration::from_secs(20);

/// The status of a command whose status is not known.
const UNKNOWN: i32 = 255;

/// How a command has ended, and until when its output is awaited.
#[derive(Debug, Default)]
pub(crate) struct ChannelEnd {
    pub(crate) status: Option<i32>,
    pub(crate) quiet_until: Option<Instant>,
    at_most_until: Option<Instant>,
}

impl ChannelEnd {
    /// With this status.
    pub(crate) fn ended(&mut self, status: i32) {
        self.status = Some(status);
        self.at_most_until = Some(Instant::now() + AT_MOST);
    }

    /// Something came over the channel.
    pub(crate) fn heard(&mut self) {
        self.quiet_until = self.at_most_until.map(|most| most.min(Instant::now() + QUIET));
    }
}

/// The status that shells give a command that a signal has ended; the protocol has the name (RFC 4254,
/// section 6.10).
pub(crate) fn status_of_signal(signal: &Sig) -> i32 {
    let signal = match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(_) => return UNKNOWN,
    };
    128 + signal.as_raw()
}

/// A connection to one guest. Many commands may run over it at once.
pub(crate) struct Ssh {
    session: Handle<HostKeyCheck>,
}

struct HostKeyCheck;

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    /// Guests make their host keys when they are first reached, and the network is the group's
    /// own: there is nothing to compare a key with, and nobody in between.
    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Ssh {
    /// Connects as root.
    pub(crate) async fn connect(address: Ipv6Addr, key: &str) -> Result<Self, SshError> {
        let key = PrivateKey::from_openssh(key).map_err(russh::keys::Error::from)?;
        let config = Arc::new(client::Config {
            nodelay: true,
            // A guest that was reset says no goodbye.
            keepalive_interval: Some(Duration::from_secs(10)),
            keepalive_max: 6,
            ..client::Config::default()
        });
        let connected = async {
            let mut session = client::connect(config, (address, 22), HostKeyCheck).await?;
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
            let outcome = session.authenticate_publickey("root", key).await?;
            if outcome.success() { Ok(Self { session }) } else { Err(SshError::Refused) }
        };
        timeout(CONNECT_LIMIT, connected).await.unwrap_or(Err(SshError::NoAnswer))
    }

    /// Whether the connection is known to be dead.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// A channel for a command or a shell.
    pub(crate) async fn open(&self) -> Result<Channel<Msg>, SshError> {
        Ok(self.session.channel_open_session().await?)
    }

    /// Runs a line by root's shell, with this input, and returns how it ended and what it printed. A
    /// process that it leaves, and that holds its output, is not waited for.
    pub(crate) async fn run(&self, line: &str, input: &[u8]) -> Result<Ran, SshError> {
        let mut channel = self.open().await?;
        channel.exec(true, line).await?;
        if !input.is_empty() {
            channel.data(input).await?;
        }
        channel.eof().await?;
        let (mut stdout, mut stderr, mut ending) = (Vec::new(), Vec::new(), ChannelEnd::default());
        let is_held = loop {
            let message = match ending.quiet_until {
                Some(until) => timeout_at(until.into(), channel.wait()).await,
                None => Ok(channel.wait().await),
            };
            match message {
                Ok(Some(ChannelMsg::Data { data })) => stdout.extend_from_slice(&data),
                Ok(Some(ChannelMsg::ExtendedData { data, .. })) => stderr.extend_from_slice(&data),
                Ok(Some(ChannelMsg::ExitStatus { exit_status })) => {
                    ending.ended(i32::try_from(exit_status).unwrap_or(UNKNOWN));
                }
                Ok(Some(ChannelMsg::ExitSignal { signal_name, .. })) => {
                    ending.ended(status_of_signal(&signal_name));
                }
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
            ending.heard();
        };
        let output = CommandOutput {
            status: ending.status.ok_or(SshError::Cut)?,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        };
        Ok(Ran { output, stdout, is_held })
    }

    /// Says goodbye, if there is anybody to say it to.
    pub(crate) async fn close(&self) {
        let _ = self.session.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}
