//! Renders what happens in a run, as a closed set of events, for people and for programs.

#![forbid(unsafe_code)]

mod board;
mod event;
mod files;
mod html;
mod junit;
mod log;
mod outcome;
pub mod output;
mod row;
mod safe;
mod safe_event;
mod screen;
mod summary;
mod terminal;
mod timeline;
mod trace;

pub use event::{Event, ImageStep, PlannedVm, VmSign, Wait};
pub use files::{PICTURES, Rendered, ReportError, render, write};
pub use outcome::{Failure, Outcome, Reserved};
pub use row::{Kind, Metric, Row};
pub use summary::Summary;
pub use terminal::Report;
