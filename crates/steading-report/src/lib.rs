//! Renders what happens in a run, as a closed set of events, for people and for programs.

#![forbid(unsafe_code)]

mod event;
mod summary;
mod terminal;

pub use event::{Event, Failure, Outcome, Wait};
pub use summary::{Kind, Metric, Summary};
pub use terminal::Report;
