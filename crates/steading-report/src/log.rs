//! What a report needs of a log, which may be far larger than memory: when it began and ended, what
//! happened to each VM, and the last records.

use std::collections::BTreeMap;
use std::io::BufRead;

use jiff::Timestamp;
use steading_logs::{FaultEvent, FileAccess, LogReader, ReadLogError, Record, Skipped, VmEvent};
use steading_plan::VmName;

/// How many records a page holds: browsers become slow with more.
const RECORDS: usize = 100_000;

/// How many requests to the file server a timeline shows: the first ones.
const ACCESSES: usize = 2_000;

/// A log that was read to its end.
#[derive(Debug, Default)]
pub(crate) struct LogView {
    /// The last records, in order of time.
    pub(crate) records: Vec<Record>,
    /// How many there are before them.
    pub(crate) left_out: usize,
    /// The times of the first record and the last, by their times.
    pub(crate) span: Option<(Timestamp, Timestamp)>,
    /// Every VM that is named, and what happened to it, in order of time.
    pub(crate) vms: BTreeMap<VmName, Vec<(Timestamp, VmEvent)>>,
    /// The faults of the network, in order of time.
    pub(crate) faults: Vec<(Timestamp, FaultEvent)>,
    /// The first requests to the file server, with the time of their end and who asked.
    pub(crate) accesses: Vec<(Timestamp, Option<VmName>, FileAccess)>,
    pub(crate) skipped: Skipped,
}

/// When a request came, of which the time of its end is known.
pub(crate) fn began(end: Timestamp, access: &FileAccess) -> Timestamp {
    let took = std::time::Duration::from_micros(access.microseconds);
    end.checked_sub(took).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl LogView {
    pub(crate) fn read<R: BufRead>(reader: &mut LogReader<R>) -> Result<Self, ReadLogError> {
        Self::read_keeping(RECORDS, reader)
    }

    fn read_keeping<R: BufRead>(count: usize, reader: &mut LogReader<R>) -> Result<Self, ReadLogError> {
        let mut log = Self::default();
        while let Some(record) = reader.next_record()? {
            let (first, last) = log.span.unwrap_or((record.time, record.time));
            log.span = Some((first.min(record.time), last.max(record.time)));
            if let Some(vm) = &record.vm {
                let events = log.vms.entry(vm.clone()).or_default();
                events.extend(record.event.clone().map(|event| (record.time, event)));
            }
            log.faults.extend(record.fault.clone().map(|event| (record.time, event)));
            if let Some(access) = &record.access
                && log.accesses.len() < ACCESSES
            {
                log.accesses.push((record.time, record.vm.clone(), access.clone()));
            }
            log.records.push(record);
            if log.records.len() == 2 * count {
                log.keep_last(count);
            }
        }
        log.keep_last(count);
        log.vms.values_mut().for_each(|events| events.sort_by_key(|(time, _)| *time));
        log.faults.sort_by_key(|(time, _)| *time);
        log.accesses.sort_by_key(|(time, _, access)| began(*time, access));
        log.skipped = reader.skipped();
        Ok(log)
    }

    /// Keeps the last records only. What was kept before stands in its order of writing among those
    /// of the same time, so doing this several times comes to the same as doing it once.
    fn keep_last(&mut self, count: usize) {
        self.records.sort_by_key(|record| record.time);
        let too_many = self.records.len().saturating_sub(count);
        self.records.drain(..too_many);
        self.left_out += too_many;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn log(seconds: &[i64]) -> String {
        let mut log = "{\"steading_log\":1,\"begun\":\"1970-01-01T00:00:00Z\"}\n".to_owned();
        for (number, &second) in seconds.iter().enumerate() {
            let time = Timestamp::from_second(second).unwrap();
            writeln!(
                log,
                "{{\"time\":\"{time}\",\"vm\":\"n1\",\"stream\":\"driver\",\"message\":\"{number}\",\
                 \"event\":{{\"on\":{{\"boot\":{number}}}}}}}"
            )
            .unwrap();
        }
        log
    }

    #[test]
    fn the_last_records_by_time_are_kept_whatever_the_order_of_writing() {
        let seconds = [9, 1, 8, 2, 7, 7, 3, 7, 6, 4, 5];
        let all = log(&seconds);
        let kept = |count| {
            let log = LogView::read_keeping(count, &mut LogReader::new(all.as_bytes())).unwrap();
            let records: Vec<_> =
                log.records.iter().map(|record| (record.time.as_second(), record.message.clone())).collect();
            (log.left_out, records)
        };
        let (_, whole) = kept(100);
        assert_eq!(whole.len(), seconds.len());
        for count in 1..=seconds.len() {
            assert_eq!(kept(count), (seconds.len() - count, whole[seconds.len() - count..].to_vec()));
        }
    }

    #[test]
    fn the_beginning_and_every_event_are_known_though_their_records_are_left_out() {
        let log = LogView::read_keeping(1, &mut LogReader::new(log(&[5, 1, 9, 3]).as_bytes())).unwrap();
        let second = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(log.span, Some((second(1), second(9))));
        let events: Vec<_> = log.vms.values().flatten().map(|(time, _)| time.as_second()).collect();
        assert_eq!(events, [1, 3, 5, 9]);
    }
}
