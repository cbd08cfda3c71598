//! Why a file cannot be served.

use std::io;

use camino::Utf8PathBuf;
use steading_plan::{FileNameError, Sha256};
use thiserror::Error;

/// Why a file cannot be served.
#[derive(Debug, Error)]
pub enum FileError {
    /// Its name cannot be part of a URL.
    #[error(transparent)]
    Name(#[from] FileNameError),
    /// It cannot be opened or read.
    #[error(
        "cannot serve {name}: cannot read {path}\nhint: is the path right, and may this user read what is there?"
    )]
    Read {
        /// What it is called.
        name: String,
        /// Where it is.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A directory, a device, a socket.
    #[error(
        "cannot serve {name}: {path} is no regular file\nhint: a directory can be served as an archive; make one with tar"
    )]
    NoFile {
        /// What it is called.
        name: String,
        /// Where it is.
        path: Utf8PathBuf,
    },
    /// It is not what was expected.
    #[error(
        "cannot serve {name}: the SHA-256 of {path} is {found}, and {expected} was expected\nhint: the file was replaced or damaged, or the expected digest is that of another version"
    )]
    Digest {
        /// What it is called.
        name: String,
        /// Where it is.
        path: Utf8PathBuf,
        /// What it should be.
        expected: Sha256,
        /// What it is.
        found: Sha256,
    },
    /// It was removed after its digest was taken.
    #[error(
        "the file {name} has vanished: {path} was there when it was added\nhint: put it back as it was, or add it again"
    )]
    Vanished {
        /// What it is called.
        name: String,
        /// Where it was.
        path: Utf8PathBuf,
    },
    /// It was written to after its digest was taken.
    #[error(
        "the file {name} has changed: {path} is not what it was when it was added, so its SHA-256 may be another\nhint: add it again"
    )]
    Changed {
        /// What it is called.
        name: String,
        /// Where it is.
        path: Utf8PathBuf,
    },
    /// Another file has the name.
    #[error(
        "another file is served as {name}: SHA-256 {other}\nhint: give this one another name, or have that one removed first"
    )]
    Taken {
        /// What both are called.
        name: String,
        /// The other.
        other: Sha256,
    },
    /// There is no such file.
    #[error("no file is served as {name:?}{}", known(.names))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
}

fn known(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names {
        [] => "\nhint: none is served at all; declare one in the testnet, or add one".to_owned(),
        names if names.len() > SHOWN => {
            format!("\nhint: there are {}, such as: {}", names.len(), names[..SHOWN].join(", "))
        }
        names => format!("\nhint: there are: {}", names.join(", ")),
    }
}
