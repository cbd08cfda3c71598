//! What time it was on the host when a guest wrote a journal entry.
//!
//! Journal entries arrive late, some of them by a whole boot, so their own time is wanted; but a
//! guest's clock may be wrong by hours, may step when it is set, and in a fork stands where the
//! freeze left it. Two facts bound the truth: an entry cannot have been written after it arrived,
//! nor before its boot began plus the guest's monotonic time. Between the two the guest is
//! believed. Outside, the entry gets its monotonic time added to the boot's beginning as the
//! promptest entry shows it: min(arrival − monotonic) over the boot. As entries that come live
//! replace a backlog, that estimate gets better; earlier records are not rewritten.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::journal::JournalEntry;

/// How much a guest's clock may differ without being called wrong.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(250);

#[derive(Debug, Clone)]
struct Boot {
    number: u32,
    /// When QEMU was started, or the machine reset, before this boot was first seen.
    started: Option<Timestamp>,
    /// The least `arrival - monotonic` seen.
    epoch: Option<Timestamp>,
}

/// The guest's clocks, over all boots of one VM.
#[derive(Debug, Default)]
pub struct GuestClock {
    boots: HashMap<String, Boot>,
    current: u32,
    started: Option<Timestamp>,
}

/// What is known about the time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryTime {
    /// The host's time when it was written, as near as can be told.
    pub time: Timestamp,
    /// The boot it was written in, from 1; 0 if the VM's first start was not marked.
    pub boot: u32,
}

impl GuestClock {
    /// The clocks of a VM that was not started yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Marks that boot `number` began at `time`, by the host's clock.
    pub fn mark_boot(&mut self, number: u32, time: Timestamp) {
        self.current = number;
        self.started = Some(time);
    }

    /// Marks that the guest was paused up to now: its monotonic clock with it, so what was learnt
    /// about the beginnings of boots is too early from now on.
    pub fn stood_still(&mut self) {
        self.boots.values_mut().for_each(|boot| boot.epoch = None);
    }

    /// When `entry`, which arrived at `arrival`, was written.
    pub fn entry_time(&mut self, entry: &JournalEntry, arrival: Timestamp) -> EntryTime {
        let boot = self.boots.entry(entry.boot_id.clone().unwrap_or_default()).or_insert(Boot {
            number: self.current,
            started: self.started,
            epoch: None,
        });
        let uptime = entry.monotonic.map(micros);
        let epoch = uptime.and_then(|uptime| arrival.checked_sub(uptime).ok());
        boot.epoch = [boot.epoch, epoch].into_iter().flatten().min();

        let earliest = match (boot.started, uptime) {
            (Some(started), Some(uptime)) => started.checked_add(uptime).ok(),
            (started, _) => started,
        };
        let believed = entry.realtime().filter(|&realtime| {
            let early = earliest.is_some_and(|earliest| realtime < earliest - TOLERANCE);
            let late = realtime > arrival + TOLERANCE;
            // A resumed guest counts the time before its freeze: then the bound says nothing.
            let unbounded = earliest.is_some_and(|earliest| earliest > arrival + TOLERANCE);
            !early && !late && !unbounded
        });
        let estimated = boot.epoch.zip(uptime).and_then(|(epoch, uptime)| epoch.checked_add(uptime).ok());
        EntryTime { time: believed.or(estimated).unwrap_or(arrival).min(arrival), boot: boot.number }
    }
}

fn micros(micros: u64) -> SignedDuration {
    SignedDuration::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).expect("in range")
    }

    fn entry(boot: &str, realtime: i64, uptime: u64) -> JournalEntry {
        JournalEntry {
            boot_id: Some(boot.to_owned()),
            realtime_usec: u64::try_from((START + realtime) * 1_000_000).ok(),
            monotonic: Some(uptime * 1_000_000),
            ..JournalEntry::default()
        }
    }

    fn clock() -> GuestClock {
        let mut clock = GuestClock::new();
        clock.mark_boot(1, at(0));
        clock
    }

    #[test]
    fn a_backlog_keeps_the_times_of_a_guest_whose_clock_is_right() {
        let mut clock = clock();
        assert_eq!(clock.entry_time(&entry("a", 3, 1), at(30)), EntryTime { time: at(3), boot: 1 });
        assert_eq!(clock.entry_time(&entry("a", 29, 27), at(30)).time, at(29));
    }

    #[test]
    fn a_guest_hours_ahead_or_behind_is_corrected_by_its_promptest_entry() {
        for wrong in [-7200, 7200] {
            let mut clock = clock();
            assert_eq!(clock.entry_time(&entry("a", wrong + 20, 18), at(20)).time, at(20));
            assert_eq!(clock.entry_time(&entry("a", wrong + 25, 23), at(40)).time, at(25), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_steps_within_a_boot_does_not_move_the_entries() {
        let mut clock = clock();
        assert_eq!(clock.entry_time(&entry("a", 20, 18), at(20)).time, at(20));
        assert_eq!(clock.entry_time(&entry("a", 21 - 86400, 19), at(21)).time, at(21));
        assert_eq!(clock.entry_time(&entry("a", 22 + 86400, 20), at(25)).time, at(22));
    }

    #[test]
    fn a_fork_whose_clock_stood_still_is_corrected() {
        let mut clock = clock();
        // The machine ran for 1000 s, was frozen, and its fork began just now with the old time.
        assert_eq!(clock.entry_time(&entry("a", -500, 1000), at(1)).time, at(1));
        assert_eq!(clock.entry_time(&entry("a", -498, 1002), at(5)).time, at(3));
    }

    #[test]
    fn entries_of_a_boot_seen_before_keep_their_boot_after_the_next_began() {
        let mut clock = clock();
        clock.entry_time(&entry("a", 5, 4), at(6));
        clock.mark_boot(2, at(100));
        assert_eq!(clock.entry_time(&entry("a", 98, 97), at(120)), EntryTime { time: at(98), boot: 1 });
        assert_eq!(clock.entry_time(&entry("b", 105, 3), at(120)), EntryTime { time: at(105), boot: 2 });
    }

    #[test]
    fn an_entry_without_any_time_has_the_time_of_its_arrival() {
        assert_eq!(clock().entry_time(&JournalEntry::default(), at(7)).time, at(7));
    }
}
