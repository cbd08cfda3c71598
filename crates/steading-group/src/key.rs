//! The key by which the driver logs in to guests: made for each group, kept in memory only.

use russh::keys::ssh_key::{Algorithm, LineEnding, PrivateKey};

use serde::{Deserialize, Serialize};

use crate::GroupError;

/// Both halves, in OpenSSH's formats.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoginKey {
    /// For the driver.
    pub private: String,
    /// For guests.
    pub public: String,
}

impl LoginKey {
    pub(crate) fn new() -> Result<Self, GroupError> {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(GroupError::Key)?;
        let private = key.to_openssh(LineEnding::LF).map_err(GroupError::Key)?.to_string();
        let public = key.public_key().to_openssh().map_err(GroupError::Key)?;
        Ok(Self { private, public })
    }
}
