//! Where a group's owner has its files and its socket, for itself and for what it starts.

use std::io::Write as _;
use std::os::unix::net::UnixListener as StdListener;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use steading_api::{CA_NAME, DIRECTORY_FD, FACTS_NAME, KEY_NAME, SOCKET_NAME};
use steading_names::AuthorityKey;
use steading_plan::Plan;
use tokio::net::UnixListener;

use crate::GroupError;
use crate::key::LoginKey;

/// The private directory, for this process and what it starts.
pub(crate) fn directory_path() -> String {
    // Where /proc is not of our own PID namespace, our number there is another than 1.
    let me = fs::read_link("/proc/self").ok().and_then(|path| path.to_str().map(str::to_owned));
    format!("/proc/{}/fd/{DIRECTORY_FD}", me.as_deref().unwrap_or("1"))
}

/// The control socket, for what this process starts.
pub(crate) fn socket_path() -> String {
    format!("{}/{SOCKET_NAME}", directory_path())
}

/// Writes the facts that programs of any language ask for into the private directory, as files.
pub(crate) fn write_facts(plan: &Plan, key: &LoginKey, authority: &AuthorityKey) -> Result<(), GroupError> {
    let failed = "write the group's facts";
    let facts = serde_json::to_vec_pretty(plan).map_err(|error| GroupError::io(failed)(error.into()))?;
    let files = [
        (FACTS_NAME, facts.as_slice()),
        (KEY_NAME, key.private.as_bytes()),
        (CA_NAME, authority.certificate.as_bytes()),
    ];
    for (name, content) in files {
        let path = format!("{}/{name}", directory_path());
        // ssh(1) refuses a key that others could read.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(GroupError::io(failed))?;
        file.write_all(content).map_err(GroupError::io(failed))?;
    }
    Ok(())
}

/// Listens for the control API.
pub(crate) fn listen() -> Result<UnixListener, GroupError> {
    let failed = "listen for the control API";
    let listener = StdListener::bind(socket_path()).map_err(GroupError::io(failed))?;
    listener.set_nonblocking(true).map_err(GroupError::io(failed))?;
    UnixListener::from_std(listener).map_err(GroupError::io(failed))
}
