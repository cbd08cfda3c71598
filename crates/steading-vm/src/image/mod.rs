//! Images: from what a distribution publishes to what QEMU opens.
//!
//! An image arrives in one of several wrappings. It is unpacked once per machine, into a cache keyed
//! by the digest of the file as it was distributed ([`ImageCache`]), as a sparse raw file that nobody
//! writes to. Each VM then writes to an overlay of its own on top of that file ([`Image::overlay`]),
//! which costs a few kilobytes and no process.

mod aside;
mod cache;
mod entry;
mod error;
mod format;
mod gpt;
mod known;
mod lock;
mod overlay;
mod qcow2;
mod size;
mod source;
mod space;
mod space_error;
mod sparse;
mod unpack;
mod wrapping;

pub use aside::Aside;
pub use cache::{Entry, ImageCache};
pub use entry::Image;
pub use error::ImageError;
pub use format::Format;
pub use lock::{Lock, touch, touched};
pub use overlay::{empty_overlay, overlay_above};
pub use space::free_bytes;
pub use space_error::{Need, SpaceError};
#[doc(hidden)]
pub use wrapping::decode_compressed;

/// How far [`ImageCache::prepare`] is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The source is read for its digest alone.
    Hashing {
        /// Bytes read so far.
        done: u64,
        /// Bytes of the source.
        total: u64,
    },
    /// The source is read, digested and unpacked.
    Unpacking {
        /// Bytes of the source read so far.
        read: u64,
        /// Bytes of the source.
        total_read: u64,
        /// Bytes of the raw image reached so far, holes included.
        written: u64,
    },
    /// Another process or thread prepares this image; its result will be used.
    Waiting,
}
