//! Room on a file system.
//!
//! A full disk shows up far from its cause: as a broken pipe in a logger, as a guest that
//! stops. So room is looked at before and while an image is unpacked, and a reserve is left to those
//! that use the file system, too.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::ImageError;
use super::space_error::{Mib, Need, SpaceError};

/// At most this many bytes are left free for others.
const RESERVE: u64 = 64 << 20;

/// Bytes that an unprivileged process can still write on the file system of `dir`.
pub fn free_bytes(dir: &Utf8Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir.as_std_path())?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The room that unpacking one image may use.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    image: Utf8PathBuf,
    dir: Utf8PathBuf,
    reserve: u64,
    need: Need,
}

impl Budget {
    /// A budget on the file system of `dir`.
    pub(crate) fn new(image: &Utf8Path, dir: &Utf8Path, need: Need) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(dir.as_std_path())?;
        let reserve = RESERVE.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 16);
        Ok(Self { image: image.to_owned(), dir: dir.to_owned(), reserve, need })
    }

    /// Fails when `more` bytes do not fit next to the reserve; `held` bytes are written already.
    pub(crate) fn check(&self, held: u64, more: u64) -> Result<(), SpaceError> {
        match free_bytes(&self.dir) {
            Ok(free) if free < more.saturating_add(self.reserve) => Err(self.error(free, held, more)),
            // Where that cannot be asked, ENOSPC tells.
            _ => Ok(()),
        }
    }

    /// Fails when what is known to be needed does not fit.
    pub(crate) fn check_need(&self) -> Result<(), SpaceError> {
        match self.need {
            Need::AtLeast(bytes) | Need::About(bytes) => self.check(0, bytes),
            // A ten gigabyte image may be all holes: what it really takes turns out on the way.
            Need::AtMost(_) => Ok(()),
        }
    }

    /// The error for a write that failed after `held` bytes, where the disk reaches to `end`.
    pub(crate) fn write_error(&self, held: u64, end: u64, source: io::Error) -> ImageError {
        // Holes take no room, but there is a largest file.
        if source.kind() == io::ErrorKind::FileTooLarge {
            let (image, dir) = (self.image.clone(), self.dir.clone());
            let file_system = file_system_of(&self.dir);
            return ImageError::TooLarge { image, size: Mib(end).to_string(), dir, file_system };
        }
        if is_full(&source) { self.exhausted(held).into() } else { self.cache_error(source) }
    }

    /// The error of a full file system.
    pub(crate) fn exhausted(&self, held: u64) -> SpaceError {
        self.error(free_bytes(&self.dir).unwrap_or(0), held, 1)
    }

    fn cache_error(&self, source: io::Error) -> ImageError {
        ImageError::Cache { action: "unpack an image in", path: self.dir.clone(), source }
    }

    fn error(&self, free: u64, held: u64, more: u64) -> SpaceError {
        let seen = held.saturating_add(more);
        let need = match self.need {
            Need::AtLeast(bytes) => Need::AtLeast(bytes.max(seen)),
            // Only the first of several frames told its size.
            Need::AtMost(bytes) if bytes < seen => Need::AtLeast(seen),
            known => known,
        };
        SpaceError {
            image: self.image.clone(),
            need,
            reserve: self.reserve,
            free: free.saturating_add(held),
            dir: self.dir.clone(),
            file_system: file_system_of(&self.dir),
        }
    }
}

/// Whether the operating system refused a write for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Mount point and type, such as `/var on ext4`, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn file_system_of(dir: &Utf8Path) -> String {
    let unknown = || "file system unknown".to_owned();
    let Ok(dir) = dir.canonicalize_utf8() else { return unknown() };
    let Ok(table) = fs_err::read_to_string("/proc/self/mountinfo") else { return unknown() };
    deepest_mount(&table, &dir).unwrap_or_else(unknown)
}

fn deepest_mount(table: &str, dir: &Utf8Path) -> Option<String> {
    let mut best: Option<(&str, &str)> = None;
    for line in table.lines() {
        let (Some(point), Some((_, tail))) = (line.split(' ').nth(4), line.split_once(" - ")) else {
            continue;
        };
        let Some(kind) = tail.split(' ').next() else { continue };
        // The later of two mounts on one point hides the earlier.
        if dir.starts_with(point) && best.is_none_or(|(b, _)| point.len() >= b.len()) {
            best = Some((point, kind));
        }
    }
    best.map(|(point, kind)| format!("file system {point}, {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_is_named() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     30 22 0:30 / /var/cache rw - xfs /dev/vdb rw\n\
                     31 22 0:31 / /var/cache rw shared:1 - tmpfs none rw\n\
                     32 22 0:32 / /var/cach rw - btrfs none rw\n";
        let name = |dir: &str| deepest_mount(table, Utf8Path::new(dir)).expect("found");
        assert_eq!(name("/var/cache/steading"), "file system /var/cache, tmpfs");
        assert_eq!(name("/home"), "file system /, ext4");
    }

    #[test]
    fn the_error_says_where_how_much_and_what_to_do() {
        let budget = Budget::new("a.img".into(), "/".into(), Need::About(u64::MAX / 2)).expect("statvfs");
        let text = budget.check_need().expect_err("too much").to_string();
        for part in ["a.img", "about", "MiB are free in /", "file system /", "hint: ", "STEADING_CACHE_DIR"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
