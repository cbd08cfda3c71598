//! Where in a journal we are.
//!
//! A cursor is opaque by contract but has a known form (`s=…;i=…;b=…;m=…;t=…;x=…`,
//! sd_journal_get_cursor(3) and `sd-journal.c`): file series, sequence number in it, boot id,
//! monotonic and realtime microseconds, hash of the contents, all in hexadecimal. We look into it
//! only to recognise an entry that we have had, which is what `sd_journal_test_cursor` does too.

use serde::{Deserialize, Serialize};

use super::JournalEntry;

/// The last journal entry that was read, and what recognises its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPosition {
    /// Its cursor.
    pub cursor: String,
    /// Its boot.
    pub boot_id: Option<String>,
    /// Its monotonic time, in microseconds.
    pub monotonic: Option<u64>,
}

impl JournalPosition {
    /// The position of `entry`.
    pub fn of(entry: &JournalEntry) -> Self {
        Self { cursor: entry.cursor.clone(), boot_id: entry.boot_id.clone(), monotonic: entry.monotonic }
    }

    /// Whether `entry` is the very entry at this position.
    pub fn is(&self, entry: &JournalEntry) -> bool {
        if self.cursor == entry.cursor {
            return true;
        }
        let (ours, theirs) = (Parts::of(&self.cursor), Parts::of(&entry.cursor));
        // A guest that lost its last entries may give their numbers again.
        if self.boot_id != entry.boot_id {
            return false;
        }
        // When the journal moves from /run to /var, series and number change; the rest stays.
        ours.series_and_number().is_some_and(|key| theirs.series_and_number() == Some(key))
            || ours.contents().is_some_and(|key| theirs.contents() == Some(key))
    }

    /// Whether `entry` lies at or before this position, in the same boot.
    pub fn covers(&self, entry: &JournalEntry) -> bool {
        let (ours, theirs) = (Parts::of(&self.cursor), Parts::of(&entry.cursor));
        if self.boot_id.is_none() || self.boot_id != entry.boot_id {
            return false;
        }
        if let (Some((series, number)), Some((other, theirs))) =
            (ours.series_and_number(), theirs.series_and_number())
            && series == other
        {
            return theirs <= number;
        }
        entry.monotonic.zip(self.monotonic).is_some_and(|(theirs, ours)| theirs <= ours)
    }

    /// Whether `entry` was written in the same boot.
    pub fn same_boot(&self, entry: &JournalEntry) -> bool {
        self.boot_id.is_some() && self.boot_id == entry.boot_id
    }
}

#[derive(Debug, Default)]
struct Parts<'a> {
    series: Option<&'a str>,
    number: Option<u64>,
    boot: Option<&'a str>,
    monotonic: Option<&'a str>,
    realtime: Option<&'a str>,
    hash: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(cursor: &'a str) -> Self {
        let mut parts = Self::default();
        for (name, value) in cursor.split(';').filter_map(|part| part.split_once('=')) {
            match name {
                "s" => parts.series = Some(value),
                "i" => parts.number = u64::from_str_radix(value, 16).ok(),
                "b" => parts.boot = Some(value),
                "m" => parts.monotonic = Some(value),
                "t" => parts.realtime = Some(value),
                "x" => parts.hash = Some(value),
                _ => {}
            }
        }
        parts
    }

    fn series_and_number(&self) -> Option<(&'a str, u64)> {
        self.series.zip(self.number)
    }

    fn contents(&self) -> Option<(&'a str, &'a str, &'a str, &'a str)> {
        Some((self.boot?, self.monotonic?, self.realtime?, self.hash?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cursor: &str, boot: &str, monotonic: u64) -> JournalEntry {
        JournalEntry {
            cursor: cursor.to_owned(),
            boot_id: Some(boot.to_owned()),
            monotonic: Some(monotonic),
            ..JournalEntry::default()
        }
    }

    #[test]
    fn an_entry_is_recognised_after_the_journal_moved_to_disk() {
        let had = JournalPosition::of(&entry("s=1;i=a;b=f;m=1;t=2;x=3", "f", 1));
        assert!(had.is(&entry("s=2;i=1;b=f;m=1;t=2;x=3", "f", 1)));
        assert!(!had.is(&entry("s=2;i=a;b=f;m=1;t=2;x=4", "f", 1)));
        assert!(!had.is(&entry("s=1;i=a;b=e;m=1;t=2;x=3", "e", 1)), "another boot gave the number again");
    }

    #[test]
    fn what_was_read_is_covered_and_what_follows_is_not() {
        let had = JournalPosition::of(&entry("s=1;i=10;b=f;m=5;t=2;x=3", "f", 5));
        assert!(had.covers(&entry("s=1;i=f;b=f;m=5;t=2;x=9", "f", 5)));
        assert!(!had.covers(&entry("s=1;i=11;b=f;m=5;t=2;x=9", "f", 5)), "numbers are hexadecimal");
        assert!(had.covers(&entry("s=2;i=11;b=f;m=4;t=2;x=9", "f", 4)));
        assert!(!had.covers(&entry("s=1;i=1;b=e;m=4;t=2;x=9", "e", 4)), "another boot");
    }
}
