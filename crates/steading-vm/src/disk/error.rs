//! What can be wrong with the content of a configuration disk.

use std::io;

use camino::Utf8PathBuf;
use thiserror::Error;

/// A configuration disk that cannot be made.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The directory cannot be listed.
    #[error(
        "cannot read the configuration directory {dir}\nhint: check that it exists, is a directory and is readable"
    )]
    Directory {
        /// The directory, or one below it.
        dir: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read the configuration file {path}\nhint: check its permissions")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Nothing to put on the disk.
    #[error(
        "the configuration directory {dir} has no files\nhint: put at least one file into it, or give no configuration"
    )]
    NoFiles {
        /// The directory.
        dir: Utf8PathBuf,
    },
    /// Something else than a file or a directory.
    #[error(
        "{path} is {kind}, which a FAT disk cannot hold\nhint: copy what it stands for in its place (`cp -rL`)"
    )]
    Special {
        /// What.
        path: Utf8PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A name that FAT cannot hold.
    #[error("a FAT disk cannot hold the name {path:?}: {reason}\nhint: rename it")]
    Name {
        /// The path, lossily.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file that FAT cannot hold.
    #[error(
        "{path} has {size} bytes, but a FAT disk holds files below 4 GiB\nhint: split it, or give it as a disk of its own"
    )]
    TooLarge {
        /// The file.
        path: Utf8PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// More than a FAT file system can hold.
    #[error(
        "the configuration is too large for a FAT disk: {bytes} bytes\nhint: give large files as a disk of their own"
    )]
    DiskTooLarge {
        /// Bytes of files.
        bytes: u64,
    },
    /// A file changed its size.
    #[error("the configuration file {path} changed while it was read\nhint: let what writes it end first")]
    Changed {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The disk itself cannot be written.
    #[error("cannot make a configuration disk in {place}\nhint: check that there is room")]
    Write {
        /// A directory, or "memory".
        place: String,
        /// The operating system's reason.
        source: io::Error,
    },
}
