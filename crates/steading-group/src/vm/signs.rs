//! What a host's journal says of the VMs inside it.
//!
//! Two names there have a meaning: under `console:NAME` are the lines of its console, and under `nested:NAME` is
//! one of `on`, `off` and why, `paused`, `resumed`.

use std::collections::HashMap;

use steading_logs::journal::{FollowEvent, JournalEntry};
use tokio::sync::mpsc;

/// What a host's journal tells of a VM inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Console(String),
    On,
    Off(String),
    Paused,
    Resumed,
}

/// A sign, and in which boot of the host it was written (`_BOOT_ID`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimedSign {
    pub(super) host_boot: Option<String>,
    pub(super) sign: Sign,
}

/// Where signs of VMs inside one go, by their names.
pub(crate) type Inside = HashMap<String, mpsc::UnboundedSender<TimedSign>>;

/// Passes on what an entry tells of a VM inside. Returns whether it is that VM's and no other's.
pub(super) fn pass_on(inside: &Inside, event: &FollowEvent) -> bool {
    let FollowEvent::Entry(entry) = event else { return false };
    let Some((name, sign)) = read(entry) else { return false };
    let Some(sender) = inside.get(name) else { return false };
    let is_console = matches!(sign, Sign::Console(_));
    // Nobody listens when the group is ending.
    let _ = sender.send(TimedSign { host_boot: entry.boot_id.clone(), sign });
    is_console
}

fn read(entry: &JournalEntry) -> Option<(&str, Sign)> {
    let (kind, name) = entry.identifier.as_deref()?.split_once(':')?;
    let message = &entry.message;
    let sign = match (kind, message.as_str()) {
        ("console", line) => Sign::Console(line.to_owned()),
        ("nested", "on") => Sign::On,
        ("nested", "paused") => Sign::Paused,
        ("nested", "resumed") => Sign::Resumed,
        ("nested", text) => Sign::Off(text.strip_prefix("off: ")?.to_owned()),
        _ => return None,
    };
    Some((name, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(identifier: &str, message: &str) -> JournalEntry {
        let (identifier, message) = (Some(identifier.to_owned()), message.to_owned());
        JournalEntry { identifier, message, ..JournalEntry::default() }
    }

    #[test]
    fn a_hosts_journal_tells_of_those_inside() {
        let said = |identifier: &str, message: &str| {
            read(&entry(identifier, message)).map(|(name, sign)| (name.to_owned(), sign))
        };
        let a = |sign| Some(("a".to_owned(), sign));
        assert_eq!(said("console:a", "on"), a(Sign::Console("on".to_owned())));
        assert_eq!(said("nested:a", "on"), a(Sign::On));
        assert_eq!(said("nested:a", "off: exit-code"), a(Sign::Off("exit-code".to_owned())));
        assert_eq!(said("nested:a", "something else"), None);
        assert_eq!(said("sshd", "on"), None);
    }

    #[test]
    fn only_the_console_of_one_that_is_planned_is_no_line_of_the_hosts() {
        let (sender, mut signs) = mpsc::unbounded_channel();
        let inside = Inside::from([("a".to_owned(), sender)]);
        let passed =
            |identifier, message| pass_on(&inside, &FollowEvent::Entry(Box::new(entry(identifier, message))));
        assert!(passed("console:a", "hello"));
        assert!(!passed("nested:a", "on"));
        assert!(!passed("console:b", "hello"));
        let mut next = || signs.try_recv().ok().map(|told| told.sign);
        assert_eq!(next(), Some(Sign::Console("hello".to_owned())));
        assert_eq!(next(), Some(Sign::On));
        assert!(signs.try_recv().is_err());
    }
}
