//! Files that are written aside and appear under their name complete, or not at all.
//!
//! Such a file has no name while it is written (`O_TMPFILE`), so that a `SIGKILL` in the middle leaves
//! nothing to clean up. Where the file system lacks that (some network and overlay file systems), it
//! has a temporary name and is locked by its writer: the next user of the directory removes those
//! that nobody locks any more.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::unlinked;

const PREFIX: &str = ".aside-";

/// A file that is being written.
#[derive(Debug)]
pub struct Aside {
    file: File,
    /// Only where the file could not be made without a name.
    name: Option<Utf8PathBuf>,
}

impl Aside {
    /// Starts an empty file on the file system of `dir`, in which it is to appear.
    pub fn create(dir: &Utf8Path) -> io::Result<Self> {
        match unlinked::open_tmpfile(dir, OFlags::empty()) {
            Ok(file) => Ok(Self { file, name: None }),
            Err(error) if unlinked::lacks_tmpfile(&error) => Self::create_named(dir),
            Err(error) => Err(error),
        }
    }

    fn create_named(dir: &Utf8Path) -> io::Result<Self> {
        remove_stale(dir);
        loop {
            let (file, path) = unlinked::create_named(dir, PREFIX)?;
            let aside = Self { file, name: Some(path) };
            // Between making and locking it, another user of the directory may take it for stale.
            let is_locked = rustix::fs::flock(&aside.file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_locked && aside.file.metadata()?.nlink() > 0 {
                return Ok(aside);
            }
        }
    }

    /// The file, to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its permissions, whatever the umask, and its name.
    ///
    /// `AlreadyExists` if the name is taken; the file is dropped then.
    pub fn publish(self, target: &Utf8Path, mode: u32) -> io::Result<File> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; this way is the one of open(2).
        let from = match &self.name {
            Some(name) => name.clone(),
            None => Utf8PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd())),
        };
        rustix::fs::linkat(CWD, from.as_std_path(), CWD, target.as_std_path(), AtFlags::SYMLINK_FOLLOW)?;
        self.file.try_clone()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs_err::remove_file(name);
        }
    }
}

/// Removes what killed writers left in `dir`; best effort.
pub(crate) fn remove_stale(dir: &Utf8Path) {
    let Ok(entries) = fs_err::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::open(entry.path(), flags, rustix::fs::Mode::empty()) else { continue };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            _ => drop(fs_err::remove_file(entry.path())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Utf8Path) -> Vec<String> {
        let entries = fs_err::read_dir(dir).expect("list");
        entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn both_ways_show_nothing_before_the_file_is_published_and_never_replace_one() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8");
        for (start, name) in [(Aside::create as fn(&Utf8Path) -> _, "a"), (Aside::create_named, "b")] {
            let target = dir.join(name);
            let aside = start(dir).expect("create");
            aside.file().write_all(b"one").expect("write");
            assert!(!target.exists());
            aside.publish(&target, 0o444).expect("publish");
            assert_eq!(fs_err::metadata(&target).expect("stat").permissions().mode() & 0o777, 0o444);

            let second = start(dir).expect("create").publish(&target, 0o444);
            assert_eq!(second.expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs_err::read(&target).expect("read"), b"one");
        }
        let mut names = names(dir);
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_named_file_is_removed_once_its_writer_is_gone_and_not_before() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8");
        let alive = Aside::create_named(dir).expect("create");
        fs_err::write(dir.join(".aside-1-1"), "left by a killed writer").expect("write");
        remove_stale(dir);
        assert_eq!(names(dir).len(), 1);
        assert!(alive.name.as_ref().expect("named").exists());
    }
}
