//! The memory of a guest: a file that QEMU maps.
//!
//! A guest that was booted has its memory in a file of its own, which QEMU maps shared: when the
//! guest is paused, the file is what it remembers. One that began with a frozen guest's memory
//! maps that privately, copy-on-write.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::unlinked;

/// Where a guest's memory is.
#[derive(Debug)]
pub(super) struct GuestMemory {
    file: File,
    is_private: bool,
}

impl GuestMemory {
    /// Memory for a guest that boots: all zeros, which takes no room.
    pub(super) fn new(bytes: u64) -> io::Result<Self> {
        Ok(Self { file: empty(bytes)?, is_private: false })
    }

    /// The memory of a frozen guest, to go on from.
    pub(super) fn frozen(file: File) -> Self {
        Self { file, is_private: true }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where the file has no pages, for [`Self::give_back`].
    pub(super) fn holes(&self) -> io::Result<Vec<Range<u64>>> {
        let end = self.file.metadata()?.len();
        let mut holes = Vec::new();
        let mut at = 0;
        while at < end {
            let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(at))?;
            // Behind the last data there is no more.
            at = match rustix::fs::seek(&self.file, SeekFrom::Data(hole)) {
                Ok(data) => data,
                Err(Errno::NXIO) => end,
                Err(error) => return Err(error.into()),
            };
            if hole < at {
                holes.push(hole..at);
            }
        }
        Ok(holes)
    }

    /// Gives back pages that are there because somebody has read them: they are all zeros. Anyone who
    /// has them mapped finds zeros again. What cannot be given back costs memory, no more.
    pub(super) fn give_back(&self, holes: &[Range<u64>]) {
        // On a disk, reading takes no room.
        if rustix::fs::fcntl_get_seals(&self.file).is_err() {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for hole in holes {
            let _ = rustix::fs::fallocate(&self.file, flags, hole.start, hole.end - hole.start);
        }
    }

    /// Whether what the guest wrote is in its QEMU process alone.
    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }
}

/// A file of zeros for a guest's memory.
pub(super) fn empty(bytes: u64) -> io::Result<File> {
    let file = unlinked::in_memory("guest memory")?;
    file.set_len(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn pages_that_were_only_read_are_given_back_and_others_are_kept() {
        const PAGE: u64 = 4096;
        let memory = GuestMemory::new(8 * PAGE).expect("memory");
        for page in [1, 7] {
            memory.file().write_all_at(b"kept", page * PAGE).expect("write");
        }
        let holes = memory.holes().expect("holes");
        assert_eq!(holes, [0..PAGE, 2 * PAGE..7 * PAGE]);
        let allocated = || memory.file().metadata().expect("stat").blocks() * 512;
        let before = allocated();
        memory.file().write_all_at(&[0; 4096], 3 * PAGE).expect("as a reader's fault does");
        assert_eq!(allocated(), before + PAGE);
        memory.give_back(&holes);
        assert_eq!(allocated(), before);
        let mut found = [0; 4];
        memory.file().read_exact_at(&mut found, 7 * PAGE).expect("read");
        assert_eq!(&found, b"kept");
    }
}
