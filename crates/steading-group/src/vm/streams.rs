//! What flows between a VM's machine, its guest, and the log.

use std::sync::Arc;

use steading_logs::journal::{FollowEvent, Follower};
use steading_logs::{ConsoleSign, VmEvent};
use steading_plan::VmName;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::signs::{Inside, pass_on};
use super::stall::BootProgress;
use super::view::VmView;
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

/// The tasks by which a VM's journal gets to the log. They end when this is dropped.
pub(super) struct Following {
    _tasks: JoinSet<()>,
    _cancel: DropGuard,
}

/// Follows a VM's journal.
pub(super) fn follow(
    vm: VmName,
    (follower, journal): (Follower, mpsc::Receiver<FollowEvent>),
    log: &Log,
    inside: Inside,
    life: Arc<BootProgress>,
) -> Following {
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let mut tasks = JoinSet::new();
    tasks.spawn(forward_journal(vm, journal, log.clone(), inside, life));
    tasks.spawn(async move {
        follower.run(cancel).await;
    });
    Following { _tasks: tasks, _cancel: guard }
}

async fn forward_journal(
    vm: VmName,
    mut events: mpsc::Receiver<FollowEvent>,
    log: Log,
    inside: Inside,
    life: Arc<BootProgress>,
) {
    while let Some(event) = events.recv().await {
        if matches!(event, FollowEvent::Reached | FollowEvent::Connected { .. }) {
            life.is_reached();
        }
        if !pass_on(&inside, &event) {
            log.journal(&vm, event).await;
        }
    }
}

pub(super) async fn read_console(
    vm: VmName,
    mut console: OwnedReadHalf,
    output: broadcast::Sender<Vec<u8>>,
    log: Log,
    signs: mpsc::UnboundedSender<ConsoleSign>,
    life: Arc<BootProgress>,
) -> String {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = console.read(&mut buffer).await {
        // Mostly nobody looks on.
        let _ = output.send(buffer[..read].to_vec());
        life.has_said(read);
        for sign in log.console(&vm, &buffer[..read]).await {
            // When nobody listens the VM has ended.
            let _ = signs.send(sign);
        }
    }
    String::new()
}

/// Shows that the guest has suspended itself, or that it is awake again, when that is news.
pub(super) async fn show_suspended(view: &watch::Sender<VmView>, log: &Log, vm: &VmName, is_suspended: bool) {
    let is_new = view
        .send_if_modified(|view| std::mem::replace(&mut view.status.suspended, is_suspended) != is_suspended);
    if is_new {
        log.event(vm, if is_suspended { VmEvent::Suspended } else { VmEvent::Woken }).await;
    }
}

/// The machine's error output, for the log and for the reason of its end.
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
