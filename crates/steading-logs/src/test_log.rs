//! All of one group's log, for its owner.
//!
//! The owner has the bytes, the events and the clock; this puts consoles, journals, merging and
//! files together so that it need not know in which order. Nothing here waits or fails: files are
//! written through small buffers, and trouble is asked for with [`TestLog::take_problems`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use jiff::{SignedDuration, Timestamp};
use steading_plan::text::one_line;
use steading_plan::{VmName, chain};
use tokio::sync::{broadcast, watch};

use crate::badness::Badness;
use crate::clock::GuestClock;
use crate::console::{Console, ConsoleLine};
use crate::error::LogError;
use crate::files::{LogFiles, sort_human_log};
use crate::journal::{FollowEvent, JournalEntry};
use crate::merge::Merger;
use crate::record::{Record, Stream, VmEvent};

/// How many records a subscriber may be behind before it loses the oldest.
const SUBSCRIBER_BEHIND: usize = 4096;

/// How long written records may stay in a buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// What a line of a console says about the state of its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleSign {
    /// The kernel is in trouble.
    Trouble {
        /// Which.
        badness: Badness,
        /// The line.
        line: String,
    },
    /// The guest suspends itself.
    Suspended,
    /// It goes on from that.
    Woken,
}

impl ConsoleSign {
    fn of(line: &str, badness: Option<Badness>) -> Option<Self> {
        /// What Linux says (kernel/power/suspend.c). Of hibernation QEMU tells, where a machine has it.
        const SUSPENDS: &str = "PM: suspend entry (";
        const WAKES: &str = "PM: suspend exit";
        match badness {
            Some(badness) => Some(Self::Trouble { badness, line: line.to_owned() }),
            None if line.contains(SUSPENDS) => Some(Self::Suspended),
            None => line.contains(WAKES).then_some(Self::Woken),
        }
    }
}

#[derive(Debug, Default)]
struct VmLog {
    console: Console,
    clock: GuestClock,
}

/// The log of one group.
#[derive(Debug)]
pub struct TestLog {
    files: LogFiles,
    merger: Merger,
    vms: BTreeMap<VmName, VmLog>,
    live: broadcast::Sender<Arc<Record>>,
    /// When what was written is to be flushed.
    flush_at: Option<Instant>,
    /// Counts flushes.
    flushed: watch::Sender<u64>,
}

impl TestLog {
    /// Opens or goes on with the log in `directory`.
    ///
    /// # Errors
    ///
    /// As [`LogFiles::open`].
    pub fn open(directory: &Utf8Path) -> Result<Self, LogError> {
        Ok(Self {
            files: LogFiles::open(directory)?,
            merger: Merger::default(),
            vms: BTreeMap::new(),
            live: broadcast::Sender::new(SUBSCRIBER_BEHIND),
            flush_at: None,
            flushed: watch::Sender::default(),
        })
    }

    /// The records from now on, each at once as it comes, hence not in time order.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Record>> {
        self.live.subscribe()
    }

    /// Changes whenever more of `log.jsonl` can be read; closed when all of it can.
    pub fn flushes(&self) -> watch::Receiver<u64> {
        self.flushed.subscribe()
    }

    /// The console of a VM, if it has one yet.
    pub fn console(&self, vm: &VmName) -> Option<&Console> {
        self.vms.get(vm).map(|log| &log.console)
    }

    /// The console of a VM, whether or not anything has come from it: to wait on its progress.
    pub fn console_entry(&mut self, vm: &VmName) -> &Console {
        &self.vm(vm).console
    }

    /// Marks that QEMU was started for `vm`, or that its machine was reset. Returns the boot's number.
    pub fn mark_boot(&mut self, vm: &VmName) -> u32 {
        let time = Timestamp::now();
        let log = self.vm(vm);
        let left = log.console.mark_boot();
        let boot = log.console.boot();
        log.clock.mark_boot(boot, time);
        self.console_lines(vm, time, left);
        self.files.mark_boot(vm, time, boot);
        let mut record = Record::new(time, Some(vm.clone()), Stream::Driver, format!("--- boot {boot} ---"));
        record.boot = boot;
        self.record(record);
        boot
    }

    /// Marks that `vm` goes on from where it was frozen, in this boot.
    pub fn go_on(&mut self, vm: &VmName, boot: u32) {
        let log = self.vm(vm);
        if log.console.boot() != boot {
            log.console.go_on(boot);
            log.clock.mark_boot(boot, Timestamp::now());
        }
        log.clock.stood_still();
    }

    /// Marks that the machine of `vm` was reset. Returns the number of the boot that begins, unless
    /// the one before has said nothing yet: firmware resets the machine, too, before it boots
    /// anything.
    pub fn mark_reset(&mut self, vm: &VmName) -> Option<u32> {
        let console = &self.vm(vm).console;
        let has_said_something = console.text().end() > console.boot_start();
        has_said_something.then(|| self.mark_boot(vm))
    }

    /// Takes bytes of a VM's console. Returns what its lines say about the guest's state.
    pub fn console_bytes(&mut self, vm: &VmName, bytes: &[u8]) -> Vec<ConsoleSign> {
        self.files.console_raw(vm, bytes);
        self.written();
        let lines = self.vm(vm).console.push(bytes, Instant::now());
        self.console_lines(vm, Timestamp::now(), lines)
    }

    /// Takes what a follower of a VM's journal tells.
    pub fn journal_event(&mut self, vm: &VmName, event: FollowEvent) {
        match event {
            FollowEvent::Entry(entry) => self.journal_entry(vm, *entry),
            FollowEvent::Reached => self.vm_event(vm, VmEvent::Reachable),
            FollowEvent::Connected { .. } => self.vm_event(vm, VmEvent::Answering),
            FollowEvent::Lost { reason } => self.driver(Some(vm), &chain(&reason)),
            FollowEvent::Disconnected { reason: None } => self.driver(Some(vm), "its journal ended"),
            FollowEvent::Disconnected { reason: Some(error) } => self.driver(Some(vm), &chain(&error)),
        }
    }

    /// Takes what happened to a VM.
    pub fn vm_event(&mut self, vm: &VmName, event: VmEvent) {
        if event == VmEvent::Resumed {
            self.vm(vm).clock.stood_still();
        }
        let record = Record::new(Timestamp::now(), Some(vm.clone()), Stream::Driver, event.to_string());
        self.record(Record { event: Some(event), ..record });
    }

    /// Says something in the driver's own name.
    pub fn driver(&mut self, vm: Option<&VmName>, message: &str) {
        self.lines(vm, Stream::Driver, None, message);
    }

    /// Takes output of a test's own process; `function` is the test function it runs.
    pub fn test(&mut self, function: Option<&str>, message: &str) {
        self.lines(None, Stream::Test, function, message);
    }

    /// Takes a record that somebody else made.
    pub fn record(&mut self, record: Record) {
        let record = record.safe();
        // Nobody listening is no error.
        let _ = self.live.send(Arc::new(record.clone()));
        self.merger.push(record);
        self.written();
        self.write_ready(Timestamp::now());
    }

    /// When [`Self::tick`] is to be called, if at all.
    pub fn deadline(&self) -> Option<Instant> {
        let partials = self.vms.values().filter_map(|log| log.console.partial_deadline());
        let merged = self.merger.due().map(|due| {
            let wait = due.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
            Instant::now() + Duration::try_from(wait).unwrap_or_default()
        });
        partials.chain(merged).chain(self.flush_at).min()
    }

    /// Does what is due: gives out unfinished lines, writes records that were held, flushes.
    pub fn tick(&mut self) {
        self.tick_at(Instant::now(), Timestamp::now());
    }

    fn tick_at(&mut self, now: Instant, time: Timestamp) {
        let quiet = |log: &VmLog| log.console.partial_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<VmName> =
            self.vms.iter().filter(|(_, log)| quiet(log)).map(|(vm, _)| vm.clone()).collect();
        for vm in due {
            let part = self.vm(&vm).console.flush_partial();
            self.console_lines(&vm, time, part.into_iter().collect());
        }
        self.write_ready(time);
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// Hands what was written to the files.
    pub fn flush(&mut self) {
        self.files.flush();
        self.flush_at = None;
        self.flushed.send_modify(|count| *count += 1);
    }

    /// What went wrong with the files since this was last asked.
    pub fn take_problems(&mut self) -> Vec<LogError> {
        self.files.take_problems()
    }

    /// Where the files are.
    pub fn directory(&self) -> &Utf8Path {
        self.files.directory()
    }

    /// Ends the log: gives out what is left and, if records came late, puts `test.log` in order.
    /// Returns what went wrong.
    pub fn finish(mut self) -> Vec<LogError> {
        let vms: Vec<VmName> = self.vms.keys().cloned().collect();
        for vm in vms {
            let part = self.vm(&vm).console.flush_partial();
            self.console_lines(&vm, Timestamp::now(), part.into_iter().collect());
        }
        for record in self.merger.flush() {
            self.files.merged(&record);
        }
        self.files.flush();
        let mut problems = self.files.take_problems();
        if self.merger.late() > 0 && problems.is_empty() {
            problems.extend(sort_human_log(self.files.directory()).err());
        }
        problems
    }

    fn vm(&mut self, vm: &VmName) -> &mut VmLog {
        self.vms.entry(vm.clone()).or_default()
    }

    fn console_lines(&mut self, vm: &VmName, time: Timestamp, lines: Vec<ConsoleLine>) -> Vec<ConsoleSign> {
        let mut signs = Vec::new();
        for ConsoleLine { text, continued, boot, badness } in lines {
            let text = one_line(&text).into_owned();
            self.files.console_line(vm, time, &text, continued);
            signs.extend(ConsoleSign::of(&text, badness));
            let mut record = Record::new(time, Some(vm.clone()), Stream::Console, text);
            record.boot = boot;
            record.cont = continued;
            self.record(record);
        }
        signs
    }

    fn journal_entry(&mut self, vm: &VmName, entry: JournalEntry) {
        let told = self.vm(vm).clock.entry_time(&entry, Timestamp::now());
        let guest_time = entry.realtime().filter(|&guest| guest != told.time);
        let mut record = Record::new(told.time, Some(vm.clone()), Stream::Journal, entry.message);
        record.boot = told.boot;
        record.guest_time = guest_time;
        record.unit = entry.unit;
        record.identifier = entry.identifier;
        record.pid = entry.pid;
        record.priority = entry.priority;
        record.cut = entry.cut;
        let record = record.safe();
        self.files.journal_line(vm, &record);
        self.record(record);
    }

    fn lines(&mut self, vm: Option<&VmName>, stream: Stream, identifier: Option<&str>, message: &str) {
        let boot = vm.and_then(|vm| self.console(vm)).map_or(0, Console::boot);
        for line in message.lines() {
            let mut record = Record::new(Timestamp::now(), vm.cloned(), stream, line);
            record.boot = boot;
            record.identifier = identifier.map(str::to_owned);
            self.record(record);
        }
    }

    fn write_ready(&mut self, time: Timestamp) {
        for record in self.merger.ready(time) {
            self.written();
            self.files.merged(&record);
        }
    }

    fn written(&mut self) {
        self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
    }
}

#[cfg(test)]
#[path = "test_log_tests.rs"]
mod tests;
