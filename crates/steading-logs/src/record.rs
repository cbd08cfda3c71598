//! One record of the log, and its form in a file.
//!
//! `log.jsonl` is read by other programs and by later versions of this one: its first line says
//! which version it is in, each further line is one [`Record`]. Fields may be added within a
//! version; readers pass over those they do not know.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steading_plan::{VmName, text};

use crate::line::Stripper;

/// The version of the file format that is written.
pub const LOG_VERSION: u32 = 1;

/// The priority of a warning (syslog(3)); lower is worse. Records of the driver that have it are
/// for people.
pub const WARNING: u8 = 4;

/// Where a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A VM's serial console.
    Console,
    /// A VM's journal.
    Journal,
    /// The driver's own words: what it did to a VM, and what went wrong.
    Driver,
    /// The output of the test's own processes.
    Test,
}

impl Stream {
    /// Its name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Journal => "journal",
            Self::Driver => "driver",
            Self::Test => "test",
        }
    }
}

/// What can happen to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmEvent {
    /// It was turned on, or reset.
    On {
        /// How often it was booted, with this time.
        boot: u32,
    },
    /// Its address takes or refuses connections: its network is up.
    Reachable,
    /// Its journal server answers: it is up.
    Answering,
    /// Paused: its CPUs do not run.
    Paused,
    /// They go on.
    Resumed,
    /// Its kernel has panicked.
    Panicked,
    /// The guest has suspended itself.
    Suspended,
    /// The guest goes on after it had suspended itself.
    Woken,
    /// It was frozen, and goes on as the first fork of that.
    Frozen {
        /// The name of the freeze.
        id: String,
    },
    /// It goes on from where it was frozen, in a group of its own.
    Forked {
        /// The boot that it is in.
        boot: u32,
    },
    /// It is off.
    Off {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for VmEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On { boot } => write!(f, "it is on, boot {boot}"),
            Self::Reachable => f.write_str("its address is up"),
            Self::Answering => f.write_str("it answers; its journal is followed"),
            Self::Paused => f.write_str("paused"),
            Self::Resumed => f.write_str("its CPUs go on"),
            Self::Panicked => f.write_str("its kernel has panicked"),
            Self::Suspended => f.write_str("the guest has suspended itself"),
            Self::Woken => f.write_str("the guest is awake again"),
            Self::Frozen { id } => write!(f, "it was frozen as {id}, and goes on"),
            Self::Forked { boot } => write!(f, "it goes on from where it was frozen, in boot {boot}"),
            Self::Off { reason } => write!(f, "it is off: {reason}"),
        }
    }
}

/// What can happen to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultEvent {
    /// A fault has begun.
    Began {
        /// Its number in its group.
        id: u32,
        /// What it does.
        what: String,
    },
    /// It is undone.
    Ended {
        /// Its number in its group.
        id: u32,
    },
}

/// A request to the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAccess {
    /// The file's name; what was asked for, if there is no such file.
    pub file: String,
    /// `GET`, `HEAD`, or what it was.
    pub method: String,
    /// The status of the answer; none if the connection was reset instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where in the file the answer began.
    pub first: u64,
    /// How many bytes were announced.
    pub announced: u64,
    /// How many were sent.
    pub sent: u64,
    /// How long that took. The record's time is that of its end.
    pub microseconds: u64,
    /// The faults that had a part in it, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<u32>,
}

/// One line of the log; a journal entry's message may have several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was said, by the host's clock: the arrival, or a journal entry's own time as far as
    /// it can be believed (see [`crate::GuestClock`]).
    pub time: Timestamp,
    /// The VM that it belongs to; none for what concerns all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmName>,
    /// Where it comes from.
    pub stream: Stream,
    /// The boot of the VM, from 1; 0 where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boot: u32,
    /// A journal entry's time by the guest's clock, where that differs from `time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_time: Option<Timestamp>,
    /// The systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The syslog identifier; for [`Stream::Test`], the test function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The process in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The syslog priority, 0 (emergency) to 7 (debug).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// What happened to the VM, if that is what the record is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<VmEvent>,
    /// What happened to the network, if that is what the record is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultEvent>,
    /// What was asked of the file server, if that is what the record is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<FileAccess>,
    /// The text.
    pub message: String,
    /// It continues the record before it of the same VM and stream.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cont: bool,
    /// The text was longer, or contained what is no text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Record {
    /// A record with nothing but its source and its text.
    pub fn new(time: Timestamp, vm: Option<VmName>, stream: Stream, message: impl Into<String>) -> Self {
        Self {
            time,
            vm,
            stream,
            boot: 0,
            guest_time: None,
            unit: None,
            identifier: None,
            pid: None,
            priority: None,
            event: None,
            fault: None,
            access: None,
            message: message.into(),
            cont: false,
            cut: false,
        }
    }

    /// The same record, safe to show: on a terminal, in a file that is read by lines, in XML. All records pass
    /// through here, when they are made and when they are read. Sequences for a terminal are removed; other
    /// characters become visible.
    #[must_use]
    pub fn safe(mut self) -> Self {
        if self.message.chars().any(|character| text::is_unsafe(character) && character != '\n') {
            let mut bare = String::new();
            Stripper::new().push(self.message.as_bytes(), &mut bare);
            let bare = bare.replace("\r\n", "\n");
            self.message = text::lines(bare.trim_end_matches('\r')).into_owned();
        }
        self.identifier.iter_mut().chain(&mut self.unit).for_each(one_line);
        if let Some(VmEvent::Off { reason: text } | VmEvent::Frozen { id: text }) = &mut self.event {
            one_line(text);
        }
        if let Some(FaultEvent::Began { what, .. }) = &mut self.fault {
            one_line(what);
        }
        if let Some(FileAccess { file, method, .. }) = &mut self.access {
            one_line(file);
            one_line(method);
        }
        self
    }

    /// The text with who said it: `sshd[123] (err): message` for a journal entry.
    pub fn said(&self) -> String {
        let Some(who) = self.identifier.as_deref().or(self.unit.as_deref()) else {
            return self.message.clone();
        };
        let pid = self.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
        let urgency = self.priority.and_then(urgency).map(|word| format!(" ({word})")).unwrap_or_default();
        format!("{who}{pid}{urgency}: {}", self.message)
    }
}

fn one_line(text: &mut String) {
    if text.chars().any(text::is_unsafe) {
        *text = text::one_line(text).into_owned();
    }
}

/// The name of a priority worth a reader's eye (syslog(3)).
fn urgency(priority: u8) -> Option<&'static str> {
    ["emerg", "alert", "crit", "err", "warning"].get(usize::from(priority)).copied()
}

/// The first line of `log.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// The version of the format, [`LOG_VERSION`].
    pub steading_log: u32,
    /// When the file was begun.
    pub begun: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let vm = "alpha".parse().expect("name");
        let time = "2026-01-02T03:04:05.678Z".parse().expect("time");
        Record::new(time, Some(vm), Stream::Console, "hello")
    }

    #[test]
    fn a_plain_record_has_only_what_it_needs() {
        let json = serde_json::to_string(&record()).expect("json");
        assert_eq!(
            json,
            r#"{"time":"2026-01-02T03:04:05.678Z","vm":"alpha","stream":"console","message":"hello"}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).expect("record"), record());
    }

    #[test]
    fn escape_sequences_and_line_ends_of_guests_are_not_shown_raw() {
        let safe = |message: &str| Record { message: message.to_owned(), ..record() }.safe().message;
        assert_eq!(safe("\x1b[31mred\x1b[0m \x1b]0;title\x07\u{9b}2J."), "red 2J.");
        assert_eq!(safe("one\r\ntwo\r"), "one\ntwo");
        assert_eq!(safe("10 %\r20 %"), "10 %\\r20 %");
        assert_eq!(safe("\u{202e}gnp.exe \u{fffe}\u{2028}"), "\\u{202e}gnp.exe \\u{fffe}\\u{2028}");
        assert_eq!(safe("a\tb €\n c"), "a\tb €\n c");
        let mut named = record();
        named.identifier = Some("x\n00:00:00 forged\x1b[2J".to_owned());
        named.event = Some(VmEvent::Off { reason: "a\nb".to_owned() });
        let named = named.safe();
        assert_eq!(named.identifier.as_deref(), Some("x\\n00:00:00 forged\\u{1b}[2J"));
        assert_eq!(named.event, Some(VmEvent::Off { reason: "a\\nb".to_owned() }));
    }

    proptest! {
        #[test]
        fn no_text_of_a_record_can_move_a_cursor_or_end_its_line(said in any::<String>(), escapes in "[\u{1b}\\[\\]0-9;a-z\r\n\t]{0,20}") {
            let mut nasty = record();
            let said = format!("{escapes}{said}");
            nasty.message.clone_from(&said);
            nasty.identifier = Some(said.clone());
            nasty.unit = Some(said.clone());
            nasty.fault = Some(FaultEvent::Began { id: 1, what: said });
            let safe = nasty.safe();
            prop_assert!(!safe.message.chars().any(|c| text::is_unsafe(c) && c != '\n'), "{:?}", safe.message);
            let Some(FaultEvent::Began { what, .. }) = &safe.fault else { panic!("{safe:?}") };
            for line in [safe.identifier.as_ref(), safe.unit.as_ref(), Some(what)].into_iter().flatten() {
                prop_assert!(!line.chars().any(text::is_unsafe), "{:?}", line);
            }
            // What was read again stays as it is.
            prop_assert_eq!(safe.clone().safe(), safe);
        }
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let json = r#"{"time":"2026-01-02T03:04:05.678Z","vm":"alpha","stream":"console","message":"hello","new":1}"#;
        assert_eq!(serde_json::from_str::<Record>(json).expect("record"), record());
    }

    #[test]
    fn what_a_unit_said_names_it_and_how_urgent_it_is() {
        let mut said = record();
        said.identifier = Some("sshd".to_owned());
        said.pid = Some(12);
        assert_eq!(said.said(), "sshd[12]: hello");
        said.priority = Some(3);
        assert_eq!(said.said(), "sshd[12] (err): hello");
    }
}
