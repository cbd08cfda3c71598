//! The connection of one process to its group, which all its handles share: the client, the event loop, and the limits of
//! waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use steading_api::{Client, GroupStatus, Note};
use steading_plan::{env_vars, number_variable};
use tokio::runtime::Runtime;

use crate::environment::variable;
use crate::ssh::Ssh;

/// How long a wait takes at most unless it says otherwise. Guests under emulation are slow.
const LIMIT: Duration = Duration::from_secs(300);

/// How long before its function's limit a wait ends at the latest, to say what it last saw: a
/// function that runs into its limit is killed and says nothing any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What all handles of one process share.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) status: GroupStatus,
    pub(crate) runtime: Runtime,
    pub(crate) connections: Mutex<HashMap<String, Arc<Ssh>>>,
    pub(crate) limit: Duration,
    /// When every wait ends, with the function's own limit in view; none if it has no limit.
    pub(crate) end: Option<Instant>,
    pub(crate) function: String,
}

impl Session {
    /// Connects to the group whose control socket is here, for this function.
    pub(crate) fn connect(socket: &str, function: &str, function_limit: Duration) -> anyhow::Result<Self> {
        let waits = function_limit.saturating_sub(LAST_WORDS.min(function_limit / 5));
        let end = Instant::now().checked_add(waits);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(1).enable_all().build().context("cannot start the event loop")?;
        let client = Client::new(socket);
        let status = runtime.block_on(client.status())?;
        let factor = number_variable(env_vars::STEADING_TIMEOUT_FACTOR, &variable)?;
        let limit = LIMIT.mul_f64(factor.unwrap_or(1.0));
        let function = function.to_owned();
        let session = Self { client, status, runtime, connections: Mutex::default(), limit, end, function };
        Ok(session)
    }

    /// Tells the runner something about this function.
    pub(crate) fn note(&self, note: Note) {
        self.runtime.block_on(self.send_note(note));
    }

    pub(crate) async fn send_note(&self, note: Note) {
        let Ok(pid) = i32::try_from(std::process::id()) else { return };
        // A note that nobody takes never fails a test.
        let _ = self.client.note(pid, &note).await;
    }

    /// Closes the SSH connection to a VM, if there is one.
    pub(crate) fn forget_connection(&self, vm: &str) {
        let forgotten = self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(vm);
        if let Some(ssh) = forgotten {
            // The guest may be gone; a goodbye must not be waited for.
            self.runtime.spawn(async move { ssh.close().await });
        }
    }
}
