//! Registers and runs test functions, each in a process of its own inside the testnet.

#![forbid(unsafe_code)]

mod backoff;
mod bazel;
mod bring_up;
pub mod broker;
mod cli;
pub mod command_line;
mod decision;
pub mod describe;
mod ending;
mod environment;
mod event_loop;
pub mod exit_code;
mod fault;
mod frozen;
mod function;
mod group;
pub mod groups;
mod guest;
mod handle;
mod hold;
mod host;
mod http;
mod input;
mod interrupts;
mod limit;
pub mod live;
mod metrics;
mod names;
pub mod prepare;
mod progress;
mod run;
mod schedule;
mod session;
mod ssh;
mod suite;
mod terminal;
mod unmet;
mod up_args;
mod vm;
pub mod warm;
mod watch;

pub use ending::Purpose;
pub use fault::FaultGuard;
pub use group::{Group, at_once};
pub use http::{HttpClient, HttpClientBuilder, HttpRequest, HttpResponse, Method, Source};
pub use metrics::{Metrics, Sample};
pub use run::run_command;
pub use steading_api::chain;
pub use suite::{ForkFallback, Section, Suite, TestOptions};
pub use up_args::{EngineArgs, GraceArgs, IsolationArgs, UpArgs};
pub use vm::Vm;

/// The old name of [`Group`].
#[deprecated(since = "0.2.0", note = "renamed to `Group`, since the name collides with `anyhow::Context`")]
pub type Context = Group;

/// The old name of [`ForkFallback`].
#[deprecated(since = "0.2.0", note = "renamed to `ForkFallback`")]
pub type WithoutForks = ForkFallback;
