//! Follows the consoles and journals of VMs and merges them into one log.
//!
//! What a VM says is the first thing to read when a test fails, so none of it may be lost, in
//! whatever way the VM ends; and since a log is only an aid, nothing here may ever fail a test or
//! hold up a guest. Therefore the parts that handle bytes are plain values without input or output
//! ([`Console`], [`journal::ExportParser`], [`Merger`]), the one task that meets the network
//! ([`journal::Follower`]) reports its troubles as events, and the files ([`LogFiles`]) report
//! theirs once and go on. [`TestLog`] puts them together for the owner of a group.
//!
//! The Journal Export Format is read here: `journald-parser` takes a batch that is in memory as a whole,
//! while a journal never ends, may be cut at any byte, and comes from a guest that may send anything.

#![forbid(unsafe_code)]

mod badness;
mod clock;
mod console;
mod error;
mod files;
pub mod journal;
mod line;
mod merge;
mod reader;
mod record;
mod test_log;
mod text;

pub use badness::{Badness, badness, is_panic};
pub use clock::{EntryTime, GuestClock};
pub use console::{Console, ConsoleLine, PARTIAL_QUIET_TIME, TAIL_LINES};
pub use error::{LogError, ReadLogError};
pub use files::{LogFiles, sort_human_log};
pub use line::{LINE_MAX, LineSplitter, SplitLine, Stripper};
pub use merge::{Merger, REORDER_WINDOW};
pub use reader::{LOG_FILE, LogReader, RECORD_MAX, Skipped};
pub use record::{FaultEvent, FileAccess, LOG_VERSION, LogHeader, Record, Stream, VmEvent, WARNING};
pub use test_log::{ConsoleSign, TestLog};
pub use text::{ConsoleText, TEXT_KEPT, TextMatch, TextWait};
