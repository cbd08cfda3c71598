//! The records of all VMs and streams, in one order.
//!
//! Records are written as they come, since a log must be readable while its testnet runs; but those
//! of one moment arrive by several ways. So each is held for a short while and the earliest goes
//! first. What comes later than that, such as the journal of a boot whose guest had no network yet,
//! is written late, with its own time; [`crate::sort_human_log`] puts it in its place in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::record::Record;

/// How long a record is held for earlier ones.
pub const REORDER_WINDOW: Duration = Duration::from_millis(500);

/// How many records are held at most. A guest that floods its console must not fill the memory.
const HELD_MAX: usize = 10_000;

#[derive(Debug)]
struct Held {
    /// What orders it: the time, then the order of arrival.
    key: (Timestamp, u64),
    record: Record,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Orders records within a window of time.
#[derive(Debug)]
pub struct Merger {
    window: SignedDuration,
    held: BinaryHeap<Reverse<Held>>,
    arrived: u64,
    last: Option<Timestamp>,
    late: u64,
}

impl Default for Merger {
    fn default() -> Self {
        Self::new(REORDER_WINDOW)
    }
}

impl Merger {
    /// A merger that holds each record until it is `window` old.
    pub fn new(window: Duration) -> Self {
        Self {
            window: SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX),
            held: BinaryHeap::new(),
            arrived: 0,
            last: None,
            late: 0,
        }
    }

    /// Takes a record.
    pub fn push(&mut self, record: Record) {
        self.arrived += 1;
        self.held.push(Reverse(Held { key: (record.time, self.arrived), record }));
    }

    /// The records that nothing earlier is waited for at `now`, in order.
    pub fn ready(&mut self, now: Timestamp) -> Vec<Record> {
        let mut ready = Vec::new();
        while self.held.len() > HELD_MAX || self.due().is_some_and(|due| due <= now) {
            ready.extend(self.take());
        }
        ready
    }

    /// All records that are held, in order.
    pub fn flush(&mut self) -> Vec<Record> {
        std::iter::from_fn(|| self.take()).collect()
    }

    /// When the next record is ready, if one is held.
    pub fn due(&self) -> Option<Timestamp> {
        let Reverse(first) = self.held.peek()?;
        Some(first.key.0.saturating_add(self.window).unwrap_or(Timestamp::MAX))
    }

    /// How many records were given out after a later one.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn take(&mut self) -> Option<Record> {
        let Reverse(Held { record, .. }) = self.held.pop()?;
        if self.last.is_some_and(|last| record.time < last) {
            self.late += 1;
        }
        self.last = self.last.max(Some(record.time));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stream;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("in range")
    }

    fn record(millis: i64, message: &str) -> Record {
        Record::new(at(millis), None, Stream::Driver, message)
    }

    fn messages(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| record.message.as_str()).collect()
    }

    #[test]
    fn records_within_the_window_come_out_in_time_order() {
        let mut merger = Merger::default();
        merger.push(record(100, "second"));
        merger.push(record(50, "first"));
        merger.push(record(400, "third"));
        assert_eq!(messages(&merger.ready(at(549))), [""; 0]);
        assert_eq!(merger.due(), Some(at(550)));
        assert_eq!(messages(&merger.ready(at(600))), ["first", "second"]);
        assert_eq!(messages(&merger.flush()), ["third"]);
        assert_eq!((merger.due(), merger.late()), (None, 0));
    }

    #[test]
    fn records_of_one_time_keep_the_order_of_their_arrival() {
        let mut merger = Merger::default();
        for number in 0..100 {
            merger.push(record(0, &number.to_string()));
        }
        let flushed = merger.flush();
        assert!(flushed.iter().enumerate().all(|(number, record)| record.message == number.to_string()));
    }

    #[test]
    fn a_late_record_comes_out_at_once_and_is_counted() {
        let mut merger = Merger::default();
        merger.push(record(1000, "on time"));
        assert_eq!(merger.ready(at(1500)).len(), 1);
        merger.push(record(10, "late"));
        assert_eq!(messages(&merger.ready(at(1500))), ["late"]);
        assert_eq!(merger.late(), 1);
    }

    #[test]
    fn a_flood_is_not_held() {
        let mut merger = Merger::default();
        for _ in 0..HELD_MAX + 5 {
            merger.push(record(0, "x"));
        }
        assert_eq!(merger.ready(at(0)).len(), 5);
    }
}
