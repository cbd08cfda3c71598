//! Saves the state of a paused machine, and loads it elsewhere.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;

use steading_plan::{Handle, VmName};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::memory::{GuestMemory, empty};
use super::pipes::{self, BUFFER};
use super::stream::split;
use crate::engine::error::EngineError;
use crate::engine::frozen::{Saved, state_file};
use crate::qmp::{Qmp, QmpError};

/// How far a transfer of state has come: what QEMU's event `MIGRATION` says last (`qapi/migration.json`).
pub(super) type Migration = watch::Receiver<String>;

/// Saves memory and devices of a machine whose CPUs are paused. QEMU has given up its disks then; `cont` takes
/// them back.
///
/// # Errors
///
/// When QEMU cannot, or ends.
pub(super) async fn save(
    vm: &VmName,
    qmp: &Qmp,
    memory: &GuestMemory,
    migration: Migration,
) -> Result<Saved, EngineError> {
    let transfer = Transfer { vm, qmp, migration, action: "write" };
    let io = |error: std::io::Error| transfer.error(error.to_string());
    let state = state_file().map_err(io)?;
    let copy = File::from(state.try_clone().map_err(io)?);
    if !memory.is_private() {
        let (theirs, copying) = pipes::into_file(copy).map_err(io)?;
        transfer.run(transfer.send_to(theirs)).await?;
        copying.await.map_err(std::io::Error::other).and_then(|copied| copied).map_err(io)?;
        let memory = memory.file().try_clone().map_err(io)?.into();
        return Ok(Saved { memory, state });
    }
    let (stream, theirs) = pipes::from_qemu().map_err(io)?;
    let bytes = memory.file().metadata().map_err(io)?.len();
    let merged = empty(bytes).map_err(io)?;
    let holes = memory.holes().map_err(io)?;
    let kept = merged.try_clone().map_err(io)?;
    let splitting = spawn_blocking(move || {
        let stream = BufReader::with_capacity(BUFFER, stream);
        let state = std::io::BufWriter::with_capacity(BUFFER, copy);
        split(stream, &merged, state)
    });
    let sent = transfer.run(transfer.send_to(theirs)).await;
    // QEMU has looked at every page, and so filled them with zeros.
    memory.give_back(&holes);
    let split = splitting.await.map_err(std::io::Error::other).and_then(|split| split);
    // When the reader has failed, all that QEMU knows is that its pipe broke; and when QEMU has, the reader knows
    // no more than that the stream is short.
    match split {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(io(error)),
        split => {
            sent?;
            split.map_err(io)?;
        }
    }
    Ok(Saved { memory: kept.into(), state })
}

/// Loads the state that a QEMU process was started with. The CPUs are paused afterwards, if they were when it
/// was saved.
///
/// # Errors
///
/// When the state does not fit the machine, or QEMU ends.
pub(super) async fn load(vm: &VmName, qmp: &Qmp, migration: Migration) -> Result<(), EngineError> {
    let begin = async {
        qmp.share_memory().await?;
        qmp.load_state(Handle::State.number()).await
    };
    Transfer { vm, qmp, migration, action: "take in" }.run(begin).await
}

struct Transfer<'a> {
    vm: &'a VmName,
    qmp: &'a Qmp,
    migration: Migration,
    action: &'static str,
}

impl Transfer<'_> {
    async fn send_to(&self, file: OwnedFd) -> Result<(), QmpError> {
        self.qmp.share_memory().await?;
        self.qmp.save_state(file).await
    }

    /// Begins, and waits for the event that announces the end.
    async fn run(&self, begin: impl Future<Output = Result<(), QmpError>>) -> Result<(), EngineError> {
        let mut migration = self.migration.clone();
        // What an earlier transfer has come to is known already.
        migration.mark_unchanged();
        begin.await.map_err(|error| self.error(error.to_string()))?;
        loop {
            migration.changed().await.map_err(|_| self.error("it ended".to_owned()))?;
            let status = migration.borrow_and_update().clone();
            match status.as_str() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => {
                    let reason = self.qmp.migration_error().await;
                    return Err(self.error(reason.unwrap_or(status)));
                }
                _ => {}
            }
        }
    }

    fn error(&self, reason: String) -> EngineError {
        EngineError::State { vm: self.vm.clone(), action: self.action, reason }
    }
}
