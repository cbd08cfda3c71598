//! Following the journal of one VM, over all its boots.
//!
//! The server is systemd-journal-gatewayd in the guest. It comes up late in each boot and vanishes
//! without a word when the VM is killed. So the follower connects again and again while the VM
//! runs, and goes on after the last entry that it had. For that it asks for the entries *from* that
//! one, not after it, and expects to see it first: gatewayd goes silently to some nearby entry when
//! it does not know the one asked for (a killed guest never wrote it to its disk), and, asked to
//! skip the last entry there is, repeats it (`request_reader_entries` in `journal-gatewayd.c`). So a
//! loss is noticed, said, and bounded: reading goes on at the beginning of the current boot.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::JournalPosition;
use super::export::{ExportError, ExportParser, FIELD_MAX, JournalEntry};
use super::http::{Ask, Exchange, HttpError};

/// The port of systemd-journal-gatewayd.
pub const GATEWAYD_PORT: u16 = 19531;

/// How long the entry asked for may be in coming before it is taken for gone: gatewayd has it at
/// once or not at all, but then says nothing until the next entry is written.
const RESUME_LIMIT: Duration = Duration::from_secs(15);

/// How long, after the VM was stopped, what had arrived from it is still read.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// Whether the VM runs. Any change ends the current connection; see [`Follower::run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// No machine: there is nothing to connect to.
    Off,
    /// The machine was started, or reset, for the so-manieth time.
    On {
        /// Counted by the owner; a new number says that old connections are dead.
        start: u32,
    },
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// With the boot in which the VM is first reached. An image may bring the journal of the
    /// machine that it was made on.
    CurrentBoot,
    /// With the oldest entry there is.
    Beginning,
    /// After an entry that was read before, by whomever: a fork goes on where its group was frozen.
    After(JournalPosition),
}

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct FollowerOptions {
    /// The journal server.
    pub server: SocketAddr,
    /// The address to connect from: the group's logs address.
    pub source: Option<IpAddr>,
    /// Where to begin.
    pub start: StartAt,
    /// Keep all fields of entries.
    pub all_fields: bool,
    /// How long one attempt to connect may take.
    pub connect_limit: Duration,
    /// The first wait between two attempts; it doubles up to [`Self::retry_max`].
    pub retry_min: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// How long a known entry may be in coming before it is taken for gone.
    pub resume_limit: Duration,
}

impl FollowerOptions {
    /// The usual: from the current boot on, a try every 0.1 to 1 s, each no longer than 1 s.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            source: None,
            start: StartAt::CurrentBoot,
            all_fields: false,
            connect_limit: Duration::from_secs(1),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            resume_limit: RESUME_LIMIT,
        }
    }
}

/// What was lost, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    /// The journal no longer has the last entry that was read.
    #[error(
        "the journal no longer has the last entry that was read; reading goes on at the beginning of the current boot, and entries between may be missing\nhint: a guest that is killed loses what it had not written to its disk; a journal in memory (Storage=volatile) ends with its boot"
    )]
    CursorGone,
    /// Older entries of the same boot were removed while nobody read.
    #[error(
        "the journal removed entries of this boot before they were read\nhint: it is full; raise RuntimeMaxUse or SystemMaxUse in the guest's journald.conf"
    )]
    Removed,
    /// Something that is not in the export format; reading goes on at the next entry.
    #[error(transparent)]
    Malformed(#[from] ExportError),
}

/// What the follower tells.
#[derive(Debug)]
pub enum FollowEvent {
    /// The VM's network answers, be it with a refusal. Told once each time that it is turned on.
    Reached,
    /// The journal server answered.
    Connected {
        /// For the first time.
        first: bool,
    },
    /// An entry; each comes once.
    Entry(Box<JournalEntry>),
    /// Entries were lost, or may have been.
    Lost {
        /// Why.
        reason: LostReason,
    },
    /// A connection ended, or cannot come about for a reason that time does not fix. What is
    /// merely not there yet is not told.
    Disconnected {
        /// Why; none when the VM was stopped or the server ended the answer.
        reason: Option<HttpError>,
    },
}

/// Why an answer was no longer read.
enum Ended {
    /// Follow again from where we are.
    Again(Option<HttpError>),
    /// The entry asked for is not there.
    Unknown,
    /// The VM was stopped, started or reset.
    Power,
}

/// What an entry is to one who looks for the place to go on from.
enum Resumed {
    /// It was read before.
    Before,
    /// It is the last that was read: the next one is new.
    Found,
    /// It is new, and the last that was read did not come before it.
    After(LostReason),
    /// It is of another boot: there may be more of that boot before it.
    Unknown,
    /// It is new.
    New,
}

/// Follows one journal. It keeps where it is, so no entry is lost or repeated as long as the guest
/// has it.
#[derive(Debug)]
pub struct Follower {
    options: FollowerOptions,
    power: watch::Receiver<Power>,
    begin: Option<oneshot::Receiver<()>>,
    events: mpsc::Sender<FollowEvent>,
    position: Option<JournalPosition>,
    /// The same, for those who look on.
    shown: watch::Sender<Option<JournalPosition>>,
    /// The position is of no use for asking, only for leaving out what was read.
    position_unknown: bool,
    connected_before: bool,
    /// For which power it was told that the VM's network answers.
    reached: Option<Power>,
    reported: Option<String>,
}

impl Follower {
    /// A follower that tells `events`. It waits while the channel is full, and so, by TCP, does
    /// gatewayd; journald in the guest does not.
    pub fn new(
        options: FollowerOptions,
        power: watch::Receiver<Power>,
        events: mpsc::Sender<FollowEvent>,
    ) -> Self {
        let position = match &options.start {
            StartAt::After(position) => Some(position.clone()),
            StartAt::CurrentBoot | StartAt::Beginning => None,
        };
        let shown = watch::Sender::new(position.clone());
        Self {
            options,
            power,
            begin: None,
            events,
            position,
            shown,
            position_unknown: false,
            connected_before: false,
            reached: None,
            reported: None,
        }
    }

    /// Has it wait before its first attempt, until it is told to begin. Nothing is lost by it: the guest keeps
    /// its journal.
    #[must_use]
    pub fn beginning_when(mut self, begin: oneshot::Receiver<()>) -> Self {
        self.begin = Some(begin);
        self
    }

    /// Where it is, as it gets on: what was told up to there will not be told again by one that begins
    /// [`StartAt::After`] it.
    pub fn position(&self) -> watch::Receiver<Option<JournalPosition>> {
        self.shown.subscribe()
    }

    /// Follows until `cancel` is cancelled or nobody listens or tells about power any more.
    /// Returns where it is, for [`StartAt::After`].
    ///
    /// When the power changes, what has arrived is still read, then the connection is dropped and,
    /// if the VM runs, made again at once.
    pub async fn run(mut self, cancel: CancellationToken) -> Option<JournalPosition> {
        // Dropping the loop at any of its waits is safe: the position changes only after an entry
        // was told.
        cancel.run_until_cancelled(self.follow()).await;
        self.position
    }

    async fn follow(&mut self) {
        let mut wait = self.options.retry_min;
        if !self.powered().await {
            return;
        }
        if let Some(begin) = self.begin.take() {
            // Whoever was to say so may have ended.
            let _ = begin.await;
        }
        while self.powered().await {
            let mut power = self.power.clone();
            let ask = self.ask();
            let opened = tokio::select! {
                biased;
                opened = self.open(&ask) => match opened {
                    ControlFlow::Break(()) => return,
                    ControlFlow::Continue(opened) => opened,
                },
                _ = power.changed() => { wait = self.options.retry_min; continue }
            };
            let going_on = match opened {
                Ok(exchange) => {
                    let opened = Instant::now();
                    let ended = self.read(exchange).await;
                    // A server that ends each answer at once is no reason for haste.
                    if opened.elapsed() > self.options.retry_max {
                        wait = self.options.retry_min;
                    }
                    ended
                }
                Err(error) if error.is_refusal() && self.position.is_some() && !self.position_unknown => {
                    self.position_unknown = true;
                    ControlFlow::Continue(Ended::Unknown)
                }
                Err(error) => self.report(error).await.map_continue(Ended::Again),
            };
            match going_on {
                ControlFlow::Break(()) => return,
                ControlFlow::Continue(Ended::Power) => {
                    wait = self.options.retry_min;
                    continue;
                }
                ControlFlow::Continue(Ended::Unknown) => continue,
                ControlFlow::Continue(Ended::Again(_)) => {}
            }
            // The back-off: there is no event by which a guest says that it begins to listen.
            tokio::select! {
                () = sleep(wait) => wait = (wait * 2).min(self.options.retry_max),
                _ = power.changed() => wait = self.options.retry_min,
                () = self.events.closed() => return,
            }
        }
    }

    /// One attempt to get an answer.
    async fn open(&mut self, ask: &Ask) -> ControlFlow<(), Result<Exchange, HttpError>> {
        let FollowerOptions { server, source, connect_limit, .. } = self.options;
        let connected = Exchange::connect(server, source, connect_limit).await;
        let power = *self.power.borrow();
        let is_there = connected.as_ref().err().is_none_or(HttpError::is_from_the_peer);
        if is_there && self.reached != Some(power) {
            self.tell(FollowEvent::Reached).await?;
            self.reached = Some(power);
        }
        ControlFlow::Continue(match connected {
            Ok(stream) => Exchange::open(server, stream, ask).await,
            Err(error) => Err(error),
        })
    }

    /// Waits until the VM runs; false when nobody will say so any more.
    async fn powered(&mut self) -> bool {
        tokio::select! {
            running = self.power.wait_for(|power| *power != Power::Off) => {
                if running.is_err() {
                    return false;
                }
            }
            () = self.events.closed() => return false,
        }
        self.power.has_changed().is_ok()
    }

    fn ask(&self) -> Ask {
        const BOOT: &str = "/entries?boot&follow";
        const ALL: &str = "/entries?follow";
        match (&self.position, &self.options.start) {
            (Some(position), _) if !self.position_unknown && header_safe(&position.cursor) => {
                Ask { path: ALL, range: Some(format!("entries={}", position.cursor)) }
            }
            (None, StartAt::Beginning) => Ask { path: ALL, range: None },
            _ => Ask { path: BOOT, range: None },
        }
    }

    async fn tell(&self, event: FollowEvent) -> ControlFlow<()> {
        match self.events.send(event).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Reports an attempt that failed, if it is not simply that nobody listens yet. Once.
    async fn report(&mut self, error: HttpError) -> ControlFlow<(), Option<HttpError>> {
        let expected =
            matches!(error, HttpError::Connect { .. } | HttpError::Silent { .. } | HttpError::Broken { .. });
        let text = error.to_string();
        if expected || self.reported.as_ref() == Some(&text) {
            return ControlFlow::Continue(None);
        }
        self.reported = Some(text);
        self.tell(FollowEvent::Disconnected { reason: Some(error) }).await.map_continue(|()| None)
    }

    async fn read(&mut self, mut exchange: Exchange) -> ControlFlow<(), Ended> {
        let first = !std::mem::replace(&mut self.connected_before, true);
        self.reported = None;
        self.tell(FollowEvent::Connected { first }).await?;
        let ended = self.read_entries(&mut exchange).await?;
        drop(exchange);
        match ended {
            Ended::Again(reason) => {
                self.tell(FollowEvent::Disconnected { reason }).await?;
                ControlFlow::Continue(Ended::Again(None))
            }
            Ended::Power => {
                self.tell(FollowEvent::Disconnected { reason: None }).await?;
                ControlFlow::Continue(Ended::Power)
            }
            Ended::Unknown => {
                self.position_unknown = true;
                ControlFlow::Continue(Ended::Unknown)
            }
        }
    }

    async fn read_entries(&mut self, exchange: &mut Exchange) -> ControlFlow<(), Ended> {
        let mut power = self.power.clone();
        let mut parser = ExportParser::new(FIELD_MAX, self.options.all_fields);
        let mut parsed = Vec::new();
        let mut resuming = self.position.is_some();
        let resumed_by = Instant::now() + self.options.resume_limit;
        let mut drained_by = None;
        loop {
            let limit = drained_by.or((resuming && !self.position_unknown).then_some(resumed_by));
            let next = async {
                match limit {
                    Some(limit) => timeout_at(limit, exchange.next()).await,
                    None => Ok(exchange.next().await),
                }
            };
            let piece = tokio::select! {
                biased;
                piece = next => piece,
                _ = power.changed(), if drained_by.is_none() => {
                    drained_by = Some(Instant::now() + DRAIN_LIMIT);
                    continue;
                }
                () = self.events.closed() => return ControlFlow::Break(()),
            };
            let bytes = match piece {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(error))) => return ControlFlow::Continue(Ended::Again(Some(error))),
                _ if drained_by.is_some() => return ControlFlow::Continue(Ended::Power),
                // An answer from an entry asked for begins with that entry, and soon.
                Err(_) => return ControlFlow::Continue(Ended::Unknown),
                Ok(None) if resuming && !self.position_unknown => {
                    return ControlFlow::Continue(Ended::Unknown);
                }
                Ok(None) => return ControlFlow::Continue(Ended::Again(None)),
            };
            parser.push(&bytes, &mut parsed);
            for outcome in parsed.drain(..) {
                let entry = match outcome {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.tell(FollowEvent::Lost { reason: error.into() }).await?;
                        continue;
                    }
                };
                match if resuming { self.resume(&entry) } else { Resumed::New } {
                    Resumed::Before => continue,
                    Resumed::Found => {
                        resuming = false;
                        self.position_unknown = false;
                        continue;
                    }
                    Resumed::Unknown => return ControlFlow::Continue(Ended::Unknown),
                    Resumed::After(reason) => self.tell(FollowEvent::Lost { reason }).await?,
                    Resumed::New => {}
                }
                resuming = false;
                self.entry(entry).await?;
            }
        }
    }

    /// What `entry` is, as long as the place to go on from was not found yet.
    fn resume(&self, entry: &JournalEntry) -> Resumed {
        match &self.position {
            None => Resumed::New,
            Some(had) if had.is(entry) => Resumed::Found,
            Some(had) if had.covers(entry) => Resumed::Before,
            Some(had) if had.same_boot(entry) => Resumed::After(LostReason::Removed),
            Some(_) if self.position_unknown => Resumed::After(LostReason::CursorGone),
            Some(_) => Resumed::Unknown,
        }
    }

    async fn entry(&mut self, entry: JournalEntry) -> ControlFlow<()> {
        let position = JournalPosition::of(&entry);
        self.tell(FollowEvent::Entry(Box::new(entry))).await?;
        self.shown.send_replace(Some(position.clone()));
        self.position = Some(position);
        self.position_unknown = false;
        ControlFlow::Continue(())
    }
}

/// Whether `cursor`, which a guest chose, can stand in a header.
fn header_safe(cursor: &str) -> bool {
    cursor.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
