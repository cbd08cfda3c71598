//! Registers and runs test functions, each in a process of its own inside the testnet.

#![forbid(unsafe_code)]

mod backoff;
mod bazel;
mod bring_up;
pub mod broker;
mod cli;
pub mod command_line;
mod context;
mod decision;
pub mod describe;
mod ending;
mod environment;
mod event_loop;
pub mod exit_code;
mod fault;
mod frozen;
mod function;
pub mod groups;
mod guest;
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

pub use context::{Context, at_once};
pub use ending::Purpose;
pub use fault::FaultGuard;
pub use http::{HttpClient, HttpClientBuilder, HttpRequest, HttpResponse, Method, Source};
pub use metrics::{Metrics, Sample};
pub use run::run_command;
pub use steading_api::chain;
pub use suite::{Section, Suite, TestOptions, WithoutForks};
pub use up_args::{EngineArgs, GraceArgs, IsolationArgs, UpArgs};
pub use vm::Vm;
