//! The journals of VMs: the format in which they come, and following them.

mod cursor;
mod export;
mod follow;
mod http;

pub use cursor::JournalPosition;
pub use export::{ExportError, ExportParser, FIELD_MAX, Field, JournalEntry};
pub use follow::{FollowEvent, Follower, FollowerOptions, GATEWAYD_PORT, LostReason, Power, StartAt};
pub use http::HttpError;
