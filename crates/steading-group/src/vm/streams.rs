//! What flows between a VM's QEMU process, its guest, and the log.

use steading_logs::ConsoleAlarm;
use steading_logs::journal::FollowEvent;
use steading_plan::VmName;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{broadcast, mpsc};

use super::nested::{self, Inside};
use crate::log::Log;

/// Types on a console. A guest that does not read is not waited for.
pub(super) fn type_all(input: &OwnedWriteHalf, bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match input.try_write(rest) {
            Ok(written @ 1..) => rest = &rest[written..],
            Ok(0) | Err(_) => return Err("its console takes no more input: the guest does not read it"),
        }
    }
    Ok(())
}

pub(super) async fn forward_journal(
    vm: VmName,
    mut events: mpsc::Receiver<FollowEvent>,
    log: Log,
    inside: Inside,
) {
    while let Some(event) = events.recv().await {
        if !nested::pass_on(&inside, &event) {
            log.journal(&vm, event).await;
        }
    }
}

pub(super) async fn read_console(
    vm: VmName,
    mut console: OwnedReadHalf,
    output: broadcast::Sender<Vec<u8>>,
    log: Log,
    alarms: mpsc::UnboundedSender<ConsoleAlarm>,
) -> String {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = console.read(&mut buffer).await {
        // Mostly nobody looks on.
        let _ = output.send(buffer[..read].to_vec());
        for alarm in log.console(&vm, &buffer[..read]).await {
            // When nobody listens the VM has ended.
            let _ = alarms.send(alarm);
        }
    }
    String::new()
}

/// QEMU's own errors, for the log and for the reason of its end.
pub(super) async fn read_errors(vm: VmName, mut errors: pipe::Receiver, log: Log) -> String {
    const KEPT: usize = 2000;
    let mut buffer = vec![0; 4096];
    let mut said = String::new();
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..read]);
        log.driver(Some(&vm), text.trim_end()).await;
        if said.len() < KEPT {
            said.push_str(&text);
        }
    }
    said
}
