//! The processes of a group. PID 1 gets every orphan, so it alone waits, for all, and tells those
//! who started one; whatever nobody started here is an orphan, and is forgotten.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal};
use steading_sys::process::{Exit, Usage, reap};
use steading_sys::signal::Signals;
use tokio::sync::watch;

type Table = HashMap<Pid, watch::Sender<Option<(Exit, Usage)>>>;

/// Knows every process that was started here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    table: Arc<Mutex<Table>>,
}

/// The end of one process, when it comes.
#[derive(Clone, Debug)]
pub(crate) struct ExitWatch(watch::Receiver<Option<(Exit, Usage)>>);

impl ExitWatch {
    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some((exit, _))) => exit,
            // The table is gone, so the group is ending, and with it the process.
            Ok(None) | Err(_) => Exit::Signal(9),
        }
    }

    /// Whether that has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What it took, once it has ended.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.0.borrow().map(|(_, usage)| usage)
    }
}

impl Processes {
    /// Starts a process by `start`; its end cannot be missed, however soon it comes.
    pub(crate) fn start<T, E>(
        &self,
        start: impl FnOnce() -> Result<T, E>,
        pid: impl FnOnce(&T) -> Pid,
    ) -> Result<(T, ExitWatch), E> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let started = start()?;
        let (sender, receiver) = watch::channel(None);
        table.insert(pid(&started), sender);
        Ok((started, ExitWatch(receiver)))
    }

    /// Watches an orphan that somebody else has started, such as a daemon. When it has ended already, nobody
    /// knows how any more.
    pub(crate) fn adopt(&self, pid: Pid) -> ExitWatch {
        // Nothing is reaped while the table is locked, so a number is not another's meanwhile.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = watch::channel(None);
        if rustix::process::test_kill_process(pid).is_ok() {
            table.insert(pid, sender);
        } else {
            sender.send_replace(Some((Exit::Signal(9), Usage::default())));
        }
        ExitWatch(receiver)
    }

    /// Tells that processes have ended, for [`Self::run`].
    pub(crate) fn ends() -> io::Result<Signals> {
        Signals::open(&[Signal::CHILD])
    }

    /// Waits for ends, until it is dropped.
    pub(crate) async fn run(self, ends: Signals) -> io::Result<()> {
        loop {
            // One signal may stand for many ends.
            self.reap_all();
            ends.next().await?;
        }
    }

    /// Takes the ends of all that have ended.
    pub(crate) fn reap_all(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((pid, exit, usage)) = reap() {
            if let Some(sender) = table.remove(&pid) {
                sender.send_replace(Some((exit, usage)));
            }
        }
    }
}
