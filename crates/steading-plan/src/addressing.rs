//! How guests get their addresses. These are the same whichever way they come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How guests get their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// From router advertisements, and by DHCPv4 for second cards.
    #[default]
    Router,
    /// From the configuration of each guest: nobody sends router advertisements or answers DHCP. Guests are
    /// told by the systemd credentials `network.network.*` and, those that have a NoCloud disk, by its
    /// `network-config`, unless the test gives these itself.
    Static,
}

impl Addressing {
    /// Whether it is that of most testnets.
    pub fn is_router(&self) -> bool {
        *self == Self::Router
    }
}
