//! Renders what happens in a run, as a closed set of events, for people and for programs.

#![forbid(unsafe_code)]

mod board;
mod event;
mod files;
mod html;
mod junit;
mod log;
pub mod output;
mod safe;
mod screen;
mod summary;
mod terminal;
mod timeline;
mod trace;

pub use event::{Event, Failure, ImageStep, Outcome, PlannedVm, Reserved, VmSign, Wait};
pub use files::{PICTURES, Rendered, ReportError, render, write};
pub use summary::{Kind, Metric, Row, Summary};
pub use terminal::Report;
