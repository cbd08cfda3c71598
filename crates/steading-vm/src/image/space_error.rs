//! Too little room for an image.

use std::fmt;

use camino::Utf8PathBuf;
use thiserror::Error;

/// How much room an image takes, in bytes; holes are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Not known before the end.
    AtLeast(u64),
    /// Known from the source's own tables.
    About(u64),
    /// The unpacked size is known, not how much of it is zeros.
    AtMost(u64),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AtLeast(bytes) => write!(f, "at least {} are needed", Mib(bytes)),
            Self::About(bytes) => write!(f, "about {} are needed", Mib(bytes)),
            Self::AtMost(bytes) => write!(f, "up to {} are needed", Mib(bytes)),
        }
    }
}

/// Bytes for people: in MiB, with a decimal where there are few.
pub(super) struct Mib(pub(super) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TENTH: u64 = (1 << 20) / 10;
        let tenths = self.0 / TENTH;
        if tenths < 1000 {
            write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} MiB", self.0 >> 20)
        }
    }
}

/// Not enough room for an image.
#[derive(Debug, Error)]
#[error(
    "no room to unpack image {image}: {need} and {} must stay free, \
     but only {} are free in {dir} ({file_system})\n\
     hint: free some space there, or name a directory on a larger file system by STEADING_CACHE_DIR",
    Mib(*reserve),
    Mib(*free)
)]
pub struct SpaceError {
    /// The source.
    pub image: Utf8PathBuf,
    /// What the raw image takes.
    pub need: Need,
    /// Bytes that are left to others on that file system.
    pub reserve: u64,
    /// Bytes that an unprivileged process can write, once the part unpacked so far is gone again.
    pub free: u64,
    /// Where.
    pub dir: Utf8PathBuf,
    /// The file system's mount point and type, where they can be told.
    pub file_system: String,
}
