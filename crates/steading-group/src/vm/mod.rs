//! One VM of the group: a task that owns its machine, and handles to it.

mod common;
pub(crate) mod console;
mod freeze;
mod handle;
mod make;
mod nested;
pub(crate) mod power;
pub(crate) mod settle;
mod signs;
mod stall;
mod standing;
mod streams;
mod task;
mod view;

pub(crate) use common::Common;
pub(crate) use handle::VmHandle;
pub(crate) use make::{make, make_nested};
pub(crate) use signs::{Inside, TimedSign};
