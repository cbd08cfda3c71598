//! The queue: who holds, who waits, and whose turn it is.
//!
//! Tickets are numbered in the order in which they came. The first that waits is granted as soon as it
//! fits in addition to those that are held; nobody passes it. What others do is told by the kernel (inotify(7));
//! since it tells of a file's end a moment before its lock is free, and of nothing at all where it has
//! no more watches to give, the queue is looked at now and then as well.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::ticket::{self, Request, Ticket};
use crate::{BrokerError, Directory, Limits, Needs};

/// How soon the queue is looked at again after something has happened, at first.
const SOON: Duration = Duration::from_millis(1);

/// How long it is not looked at, at most.
const SELDOM: Duration = Duration::from_secs(1);

/// How long one that could go may let its turn pass. It is stopped, or has limits of its own that are
/// narrower; those behind it go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// The queue of one directory.
#[derive(Clone, Debug)]
pub struct Queue {
    directory: Directory,
    limits: Limits,
}

/// All tickets whose holders are alive, in their order.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// What may be reserved in all, by these settings.
    pub limits: Limits,
    /// The tickets.
    pub tickets: Vec<Ticket>,
}

impl View {
    /// Those that hold something.
    pub fn holders(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.iter().filter(|ticket| ticket.held_since.is_some())
    }

    /// Those that wait, the next first.
    pub fn waiting(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.iter().filter(|ticket| ticket.held_since.is_none())
    }

    /// What is held in all.
    pub fn held(&self) -> Needs {
        self.limits.sum(self.holders().filter_map(|ticket| Some(ticket.request.as_ref()?.needs)))
    }
}

impl Queue {
    /// The queue of this directory, by these limits.
    pub fn new(directory: Directory, limits: Limits) -> Self {
        Self { directory, limits }
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Its directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Looks at all tickets.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn view(&self) -> Result<View, BrokerError> {
        let mut tickets = Vec::new();
        for number in self.directory.numbers().map_err(self.failed("list the tickets"))? {
            tickets.extend(self.read(number)?);
        }
        Ok(View { limits: self.limits, tickets })
    }

    /// A place in the queue for this request; it is taken by the first [`Waiting::advance`].
    pub fn wait(&self, request: Request) -> Waiting {
        Waiting {
            changes: self.watch().ok(),
            queue: self.clone(),
            request,
            ticket: None,
            could_go: HashMap::new(),
            delay: SOON,
            began: Instant::now(),
        }
    }

    /// A lease at once, or none: if anybody waits, or it does not fit.
    ///
    /// # Errors
    ///
    /// When no ticket can be written.
    pub fn try_take(&self, request: &Request) -> Result<Option<Lease>, BrokerError> {
        let Some(_lock) = self.lock()? else { return Ok(None) };
        let view = self.view()?;
        if view.waiting().next().is_some() || !self.limits.fits(view.held(), request.needs) {
            return Ok(None);
        }
        let (number, file) = self.enter(request)?;
        self.grant(number, file, request.needs, Duration::ZERO).map(Some)
    }

    fn lock(&self) -> Result<Option<File>, BrokerError> {
        self.directory.try_lock().map_err(self.failed("lock the directory"))
    }

    /// Takes the next number. The directory's lock must be held.
    fn enter(&self, request: &Request) -> Result<(u64, File), BrokerError> {
        let numbers = self.directory.numbers().map_err(self.failed("list the tickets"))?;
        let number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let file = ticket::create(&self.directory.ticket(number), request);
        let file = file.map_err(self.failed("make a ticket"))?;
        // The new one has its number by now, so none is given twice.
        self.sweep(&numbers);
        Ok((number, file))
    }

    fn grant(&self, number: u64, file: File, needs: Needs, waited: Duration) -> Result<Lease, BrokerError> {
        let held_since = ticket::grant(&file).map_err(self.failed("note a grant"))?;
        let stub = Stub { queue: self.clone(), number };
        Ok(Lease { file: file.into(), number, needs, held_since, waited, stub })
    }

    /// Removes tickets of this user whose holders have ended. The directory's lock must be held.
    fn sweep(&self, numbers: &[u64]) {
        for &number in numbers {
            let path = self.directory.ticket(number);
            let Ok(file) = fs_err::File::open(&path) else { continue };
            if ticket::is_locked(file.file()).is_ok_and(|is_locked| !is_locked) {
                // Others' stay: the directory is sticky.
                let _ = fs_err::remove_file(&path);
            }
        }
    }

    fn read(&self, number: u64) -> Result<Option<Ticket>, BrokerError> {
        ticket::read(&self.directory.ticket(number), number).map_err(self.failed("read a ticket"))
    }

    fn watch(&self) -> io::Result<OwnedFd> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The end of a holder closes its ticket, however it ends, and in whatever namespace it is.
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::DELETE;
        inotify::add_watch(&events, self.directory.path().as_std_path(), what)?;
        Ok(events)
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> BrokerError + '_ {
        move |source| {
            let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let hint = if is_full {
                "\nhint: free some room there, or name another directory by STEADING_BROKER_DIR"
            } else {
                "\nhint: STEADING_BROKER_DIR names another directory; with --no-broker groups do not wait for each other"
            };
            BrokerError::Ticket { action, path: self.directory.path().to_owned(), hint, source }
        }
    }
}

/// One that waits for its turn. When it is dropped its place is free.
#[derive(Debug)]
pub struct Waiting {
    queue: Queue,
    request: Request,
    /// None until the directory could be locked for the first time.
    ticket: Option<(u64, File)>,
    changes: Option<OwnedFd>,
    /// Who is before us and could have gone, and since when.
    could_go: HashMap<u64, Instant>,
    delay: Duration,
    began: Instant,
}

impl Waiting {
    /// Takes a place, if it has none yet, and then the lease, if it is its turn.
    ///
    /// # Errors
    ///
    /// When no ticket can be written or read.
    pub fn advance(&mut self) -> Result<Option<Lease>, BrokerError> {
        // Who has it gives it back in a moment, or is stopped, and then nobody can go on.
        let Some(_lock) = self.queue.lock()? else { return Ok(None) };
        let (number, file) = match self.ticket.take() {
            Some(ticket) => ticket,
            None => self.queue.enter(&self.request)?,
        };
        if self.is_turn(number)? {
            return self.queue.grant(number, file, self.request.needs, self.began.elapsed()).map(Some);
        }
        self.ticket = Some((number, file));
        Ok(None)
    }

    fn is_turn(&mut self, own: u64) -> Result<bool, BrokerError> {
        let limits = self.queue.limits;
        let numbers = self.queue.directory.numbers().map_err(self.queue.failed("list the tickets"))?;
        let mut held = Needs::default();
        for number in numbers {
            if number == own {
                continue;
            }
            // Of those behind, a few may hold all the same: whom they have passed was stopped.
            let Some(ticket) = self.queue.read(number)? else { continue };
            match (ticket.request, ticket.held_since) {
                (Some(request), Some(_)) => held = limits.sum([held, request.needs]),
                (Some(request), None) if number < own => {
                    if !limits.fits(held, request.needs) {
                        self.could_go.remove(&number);
                        return Ok(false);
                    }
                    let since = self.could_go.entry(number).or_insert_with(Instant::now);
                    if since.elapsed() < PATIENCE {
                        return Ok(false);
                    }
                }
                (None, _) if number < own => return Ok(false),
                _ => {}
            }
        }
        Ok(limits.fits(held, self.request.needs))
    }

    /// Its number, once it has a place.
    pub fn number(&self) -> Option<u64> {
        self.ticket.as_ref().map(|(number, _)| *number)
    }

    /// Waits until it may be its turn, until something can be read from `interrupt`, or for so long at
    /// most. Returns whether there is something to be read.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    pub fn rest(&mut self, interrupt: impl AsFd, at_most: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(self.delay.min(at_most)).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN)];
        fds.extend(self.changes.as_ref().map(|changes| PollFd::new(changes, PollFlags::IN)));
        match poll(&mut fds, Some(&limit)) {
            Err(Errno::INTR) => return Ok(false),
            polled => polled?,
        };
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        let (is_interrupted, has_changed) = (is_ready(fds.first()), is_ready(fds.get(1)));
        self.delay = if has_changed { SOON } else { (self.delay * 2).min(SELDOM) };
        if has_changed && let Some(changes) = &self.changes {
            drain(changes.as_fd());
        }
        Ok(is_interrupted)
    }
}

/// Takes what was told; only that there was something matters.
fn drain(events: BorrowedFd<'_>) {
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    while reader.next().is_ok() {}
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((number, file)) = self.ticket.take() {
            // It is this user's own, and it is locked, so nobody else removes it.
            let _ = fs_err::remove_file(self.queue.directory.ticket(number));
            drop(file);
        }
    }
}

/// What is reserved, for as long as any process has its descriptor open.
#[derive(Debug)]
pub struct Lease {
    file: OwnedFd,
    /// The ticket's number.
    pub number: u64,
    /// What is reserved.
    pub needs: Needs,
    /// Since when it is held.
    pub held_since: Timestamp,
    /// How long it was waited for.
    pub waited: Duration,
    stub: Stub,
}

impl Lease {
    /// The descriptor that holds it, and what is left to do when all are closed.
    pub fn into_parts(self) -> (OwnedFd, Stub) {
        (self.file, self.stub)
    }
}

/// Removes the ticket of a lease that has ended, when it is dropped. While it is still held it stays,
/// and this user's next group removes it.
#[derive(Debug)]
pub struct Stub {
    queue: Queue,
    number: u64,
}

impl Stub {
    /// The ticket's file.
    pub fn path(&self) -> Utf8PathBuf {
        self.queue.directory.ticket(self.number)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Ok(Some(_lock)) = self.queue.lock() {
            self.queue.sweep(&[self.number]);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
