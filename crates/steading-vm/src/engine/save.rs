//! Writing the state of a VM that stands still, and taking it in elsewhere.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;

use steading_plan::VmName;
use tokio::task::spawn_blocking;

use super::frozen::state_file;
use super::memory::{GuestMemory, empty};
use super::pipes::{self, BUFFER};
use super::stream::split;
use super::{EngineError, STATE_NUMBER};
use crate::qmp::{Qmp, QmpError, QmpEvent, QmpEvents, TimedEvent};

/// What a VM remembers, in two files.
#[derive(Debug)]
pub struct Saved {
    /// The guest's memory. While the VM's QEMU process lives it may be that process's own.
    pub memory: OwnedFd,
    /// The state of the devices.
    pub state: OwnedFd,
}

/// Writes down what a VM remembers whose CPUs stand still. QEMU has given up its disks then;
/// `cont` takes them back. `events` are the VM's; those that are about something else are kept in
/// `others`.
///
/// # Errors
///
/// When QEMU cannot, or ends.
pub async fn save(
    vm: &VmName,
    qmp: &Qmp,
    memory: &GuestMemory,
    events: &mut QmpEvents,
    others: &mut Vec<TimedEvent>,
) -> Result<Saved, EngineError> {
    let transfer = Transfer { vm, qmp, action: "write" };
    let io = |error: std::io::Error| transfer.error(error.to_string());
    let state = state_file().map_err(io)?;
    let copy = File::from(state.try_clone().map_err(io)?);
    if !memory.is_private() {
        let (theirs, copying) = pipes::into_file(copy).map_err(io)?;
        transfer.run(transfer.send_to(theirs), events, others).await?;
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
    let sent = transfer.run(transfer.send_to(theirs), events, others).await;
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

/// Takes in the state that a QEMU process was started with. The CPUs stand still afterwards, if
/// they did when it was written.
///
/// # Errors
///
/// When the state does not fit the machine, or QEMU ends.
pub async fn load(
    vm: &VmName,
    qmp: &Qmp,
    events: &mut QmpEvents,
    others: &mut Vec<TimedEvent>,
) -> Result<(), EngineError> {
    let begin = async {
        qmp.share_memory().await?;
        qmp.load_state(STATE_NUMBER).await
    };
    Transfer { vm, qmp, action: "take in" }.run(begin, events, others).await
}

struct Transfer<'a> {
    vm: &'a VmName,
    qmp: &'a Qmp,
    action: &'static str,
}

impl Transfer<'_> {
    async fn send_to(&self, file: OwnedFd) -> Result<(), QmpError> {
        self.qmp.share_memory().await?;
        self.qmp.save_state(file).await
    }

    /// Begins, and waits for the event that tells of the end.
    async fn run(
        &self,
        begin: impl Future<Output = Result<(), QmpError>>,
        events: &mut QmpEvents,
        others: &mut Vec<TimedEvent>,
    ) -> Result<(), EngineError> {
        begin.await.map_err(|error| self.error(error.to_string()))?;
        loop {
            match events.recv().await {
                None => return Err(self.error("it ended".to_owned())),
                Some(TimedEvent { event: QmpEvent::Migration { status }, .. }) => match status.as_str() {
                    "completed" => return Ok(()),
                    "failed" | "cancelled" => {
                        let reason = self.qmp.migration_error().await;
                        return Err(self.error(reason.unwrap_or(status)));
                    }
                    _ => {}
                },
                Some(event) => others.push(event),
            }
        }
    }

    fn error(&self, reason: String) -> EngineError {
        EngineError::State { vm: self.vm.clone(), action: self.action, reason }
    }
}
