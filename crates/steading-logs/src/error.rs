//! What goes wrong with a log.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use thiserror::Error;

use crate::record::LOG_VERSION;

/// Why a log's file cannot be written or read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk, or the user's share of it, is full.
    #[error(
        "cannot write the log {path}: no space is left\nhint: free some space on the file system of {directory}; the log goes on by itself"
    )]
    Full {
        /// The file.
        path: Utf8PathBuf,
        /// Its directory.
        directory: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("cannot open the log {path}")]
    Open {
        /// The file or directory.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It cannot be written for another reason.
    #[error("cannot write the log {path}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It is no log, or cannot be read.
    #[error("cannot read the log {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: ReadLogError,
    },
}

impl LogError {
    pub(crate) fn write(path: &Utf8Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let directory = path.parent().unwrap_or(path).to_owned();
            return Self::Full { path: path.to_owned(), directory, source };
        }
        Self::Write { path: path.to_owned(), source }
    }
}

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum ReadLogError {
    /// Its first line is no header.
    #[error(
        "the first line is not a log's header: {shown:?}\nhint: a log begins with {{\"steading_log\":{LOG_VERSION},…}}"
    )]
    NoHeader {
        /// The beginning of that line.
        shown: String,
    },
    /// A later version wrote it.
    #[error(
        "the log is of version {found}, this program reads version {LOG_VERSION}\nhint: read it with the version of steading that wrote it"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// The disk does not give it.
    #[error("its next line cannot be read")]
    Read(#[source] io::Error),
}
