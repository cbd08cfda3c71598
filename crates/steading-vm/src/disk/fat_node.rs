//! What goes onto a FAT disk.

use camino::Utf8PathBuf;

/// Bytes of the largest file that FAT can hold.
pub(crate) const FILE_MAX: u64 = u32::MAX as u64;
/// Bytes of a directory entry.
pub(crate) const ENTRY: usize = 32;

/// A file or directory that goes onto the disk.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its name there.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) path: Utf8PathBuf,
    pub(crate) content: NodeContent,
}

/// What is in a [`Node`].
#[derive(Debug)]
pub(crate) enum NodeContent {
    Directory(Vec<Node>),
    /// A file of this host, read when the disk is written.
    File {
        /// Bytes.
        size: u64,
    },
    Bytes(Vec<u8>),
}
