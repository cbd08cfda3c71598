//! The owner of a group: one process, mostly PID 1 of namespaces of its own, that makes a plan real and is the
//! only one that changes it.
//!
//! [`spawn`] makes it; everybody else asks it through the control API (`steading-api`). It ends when
//! it is asked to, or with its parent, and the kernel takes everything along.

#![forbid(unsafe_code)]

mod api;
mod beginning;
mod certificates;
mod config;
mod error;
mod failed;
mod faults;
mod files;
mod flood;
mod freeze;
mod freezes;
mod frozen;
mod ground;
mod group;
mod handle;
mod isolation;
mod job;
mod key;
mod launched;
mod listening;
mod log;
mod making;
mod names;
mod owner;
mod paths;
mod relay;
mod remote;
mod router;
mod services;
mod sources;
pub mod stored;
mod surroundings;
mod taken;
mod targets;
mod time;
mod vm;

pub use config::{Admission, GroupConfig, Origin};
pub use error::GroupError;
pub use faults::probe_faults;
pub use frozen::{Clock, FROZEN_VERSION, FrozenError, FrozenGroup, FrozenRecord, OpenedGroup};
pub use handle::{Owner, spawn};
pub use isolation::{
    Collected, Isolation, IsolationError, ParseIsolationError, WantedIsolation, collect, find_launcher,
    has_capabilities,
};
pub use key::LoginKey;
pub use owner::in_a_line;
pub use steading_names::AuthorityKey;
