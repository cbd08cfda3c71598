//! The processes of a group. PID 1 gets every orphan, so it alone waits for all of them, and reports each end to
//! the code that started the process. A process that nobody here started is an orphan and is forgotten.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::process::{Exit, Usage, reap};
use crate::signal::Signals;
use rustix::process::{Pid, Signal};
use tokio::sync::watch;

type Table = HashMap<Pid, watch::Sender<Option<(Exit, Usage)>>>;

/// The table of all processes that were started here. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    table: Arc<Mutex<Table>>,
}

/// The end of one process, when it comes.
#[derive(Clone, Debug)]
pub struct ExitWatch(watch::Receiver<Option<(Exit, Usage)>>);

/// Announces the end of what is watched by an [`ExitWatch`].
#[derive(Debug)]
pub struct ExitSender(watch::Sender<Option<(Exit, Usage)>>);

impl ExitSender {
    /// It has ended. Nobody may be watching.
    pub fn send(self, exit: Exit) {
        self.0.send_replace(Some((exit, Usage::default())));
    }
}

impl ExitWatch {
    /// A watch for something that ends as a process does and is none.
    pub fn channel() -> (ExitSender, Self) {
        let (sender, receiver) = watch::channel(None);
        (ExitSender(sender), Self(receiver))
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some((exit, _))) => exit,
            // The table is gone, so the group is ending, and with it the process.
            Ok(None) | Err(_) => Exit::Signal(9),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The resources that it used, once it has ended.
    pub fn usage(&self) -> Option<Usage> {
        self.0.borrow().map(|(_, usage)| usage)
    }
}

impl Processes {
    /// Starts a process by `start`. Its end cannot be missed, however soon it comes.
    ///
    /// # Errors
    ///
    /// Those of `start`.
    pub fn start<T, E>(
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
    pub fn adopt(&self, pid: Pid) -> ExitWatch {
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

    /// The signals that report ends, for [`Self::run`].
    ///
    /// # Errors
    ///
    /// When signalfd(2) fails.
    pub fn ends() -> io::Result<Signals> {
        Signals::open(&[Signal::CHILD])
    }

    /// Waits for ends, until it is dropped.
    ///
    /// # Errors
    ///
    /// When its signals cannot be read.
    pub async fn run(self, ends: Signals) -> io::Result<()> {
        loop {
            // One signal may stand for many ends.
            self.reap_all();
            ends.next().await?;
        }
    }

    /// Reaps all processes that have ended.
    pub fn reap_all(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((pid, exit, usage)) = reap() {
            if let Some(sender) = table.remove(&pid) {
                sender.send_replace(Some((exit, usage)));
            }
        }
    }
}
