//! Asking about the guest, and changing it, as a whole.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::channel::{GuestAgent, unexpected};
use super::error::AgentError;

/// How a guest is to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// And come up again.
    Reboot,
    /// And turn the machine off.
    Powerdown,
}

/// An address of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix: u8,
}

/// A network interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its hardware address, as the agent writes it.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<GuestAddress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawInterface {
    name: String,
    hardware_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<RawAddress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawAddress {
    ip_address: String,
    prefix: u8,
}

impl GuestAgent {
    /// Asks whether the agent answers.
    ///
    /// # Errors
    ///
    /// As [`GuestAgent::execute`]; so for all commands here.
    pub async fn ping(&self, limit: Duration) -> Result<(), AgentError> {
        self.execute("guest-ping", None, limit).await.map(drop)
    }

    /// Has the guest shut down in an orderly way. Success means that it began to.
    pub async fn shutdown(&self, mode: ShutdownMode, limit: Duration) -> Result<(), AgentError> {
        let mode = match mode {
            ShutdownMode::Reboot => "reboot",
            ShutdownMode::Powerdown => "powerdown",
        };
        self.execute_unanswered("guest-shutdown", &json!({ "mode": mode }), limit).await
    }

    /// The network interfaces of the guest, with their addresses.
    pub async fn network_interfaces(&self, limit: Duration) -> Result<Vec<GuestInterface>, AgentError> {
        let command = "guest-network-get-interfaces";
        let answer = self.execute(command, None, limit).await?;
        let raw = Vec::<RawInterface>::deserialize(&answer).map_err(|_| unexpected(command, &answer))?;
        let address = |raw: &RawAddress| {
            // Link-local addresses come with the interface: `fe80::1%eth0`.
            let text = raw.ip_address.split('%').next().unwrap_or_default();
            Some(GuestAddress { address: text.parse().ok()?, prefix: raw.prefix })
        };
        let interface = |raw: RawInterface| GuestInterface {
            addresses: raw.ip_addresses.iter().filter_map(address).collect(),
            name: raw.name,
            mac: raw.hardware_address,
        };
        Ok(raw.into_iter().map(interface).collect())
    }

    /// Sets the guest's clock, as after a freeze.
    pub async fn set_time(&self, time: Timestamp, limit: Duration) -> Result<(), AgentError> {
        let nanoseconds = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        self.execute("guest-set-time", Some(json!({ "time": nanoseconds })), limit).await.map(drop)
    }
}
