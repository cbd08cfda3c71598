//! Renders what happens in a run, as a closed set of events, for people and for programs.

#![forbid(unsafe_code)]

mod event;
mod summary;
mod terminal;

pub use event::{Event, Failure, Outcome};
pub use summary::Summary;
pub use terminal::Report;
