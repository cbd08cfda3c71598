//! Why a group cannot take its place in the queue.

use std::io;

use camino::Utf8PathBuf;
use thiserror::Error;

/// Why the broker cannot be used.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The directory cannot be had.
    #[error("cannot use {path} for the tickets of groups that share this machine{hint}")]
    Directory {
        /// The directory.
        path: Utf8PathBuf,
        /// What to do.
        hint: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The directory is one in which it would not work.
    #[error("cannot use {path} for the tickets of groups that share this machine: {why}")]
    Unfit {
        /// The directory.
        path: Utf8PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A ticket cannot be written.
    #[error("cannot {action} in {path}{hint}")]
    Ticket {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: Utf8PathBuf,
        /// What to do.
        hint: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}
