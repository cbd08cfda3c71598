//! Commands in guests over SSH, with the key that the group made for itself.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect};
use steading_api::CommandOutput;
use thiserror::Error;
use tokio::time::timeout;

/// How long one attempt to connect may take: a guest under emulation needs a second or two for
/// its part of the key exchange, and its sshd may be starting.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Why a command could not be run, or its end not be learnt.
#[derive(Debug, Error)]
pub(crate) enum SshError {
    /// The group's key is not one.
    #[error("the group's key cannot be read")]
    Key(#[from] russh::keys::Error),
    /// The guest does not let us in.
    #[error(
        "the guest refuses the group's key for root\nhint: the key is given as the systemd credential ssh.authorized_keys.root over SMBIOS; does the guest read those (systemd 252 or later)?"
    )]
    Refused,
    /// Nobody answers in time.
    #[error("no SSH server answered within {} s", CONNECT_LIMIT.as_secs())]
    NoAnswer,
    /// The protocol, or the connection.
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    /// The command's end was not told.
    #[error("the connection ended before the command did")]
    Cut,
}

/// A connection to one guest. Many commands may run over it at once.
pub(crate) struct Ssh {
    session: Handle<Guest>,
}

struct Guest;

impl client::Handler for Guest {
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
            let mut session = client::connect(config, (address, 22), Guest).await?;
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

    /// Runs a line by root's shell, with this input, and returns how it ended and what it printed.
    pub(crate) async fn run(&self, line: &str, input: &[u8]) -> Result<(CommandOutput, Vec<u8>), SshError> {
        let mut channel = self.open().await?;
        channel.exec(true, line).await?;
        if !input.is_empty() {
            channel.data(input).await?;
        }
        channel.eof().await?;
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => stderr.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = i32::try_from(exit_status).ok(),
                // A shell would say 128 and the signal's number; the protocol tells a name.
                ChannelMsg::ExitSignal { .. } => status = Some(255),
                _ => {}
            }
        }
        let output = CommandOutput {
            status: status.ok_or(SshError::Cut)?,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        };
        Ok((output, stdout))
    }

    /// Says goodbye, if there is anybody to say it to.
    pub(crate) async fn close(&self) {
        let _ = self.session.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}
