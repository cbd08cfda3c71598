//! Files without a name.
//!
//! What belongs to one running VM (its overlays, its configuration disks) must be gone when the VM
//! is, even after a `SIGKILL`. A file that was never linked into a directory gives exactly that:
//! the kernel frees it with the last descriptor. QEMU gets the descriptor by `-add-fd`.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

/// Makes an empty file for reading and writing, without a name, on the file system of `dir`.
pub fn create(dir: &Utf8Path) -> io::Result<File> {
    match open_tmpfile(dir, OFlags::EXCL) {
        Err(error) if lacks_tmpfile(&error) => create_by_unlinking(dir),
        result => result,
    }
}

/// Makes an empty file for reading and writing that lives in memory; `name` shows up in `/proc`.
pub(crate) fn in_memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// `open(dir, O_TMPFILE)`; `O_EXCL` with it forbids to link the file in later (open(2)).
pub(crate) fn open_tmpfile(dir: &Utf8Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | more;
    Ok(File::from(rustix::fs::open(dir.as_std_path(), flags, Mode::RUSR | Mode::WUSR)?))
}

/// Whether this error of [`open_tmpfile`] means that the file system or kernel has no `O_TMPFILE`.
///
/// A kernel that does not know the flag sees `O_DIRECTORY | O_RDWR`: `EISDIR` (open(2), BUGS).
pub(crate) fn lacks_tmpfile(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL))
}

/// Makes a new, empty, private file in `dir` with a name that starts with `prefix`.
pub(crate) fn create_named(dir: &Utf8Path, prefix: &str) -> io::Result<(File, Utf8PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{prefix}{}-{count}", std::process::id()));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(path.as_std_path(), flags, Mode::RUSR | Mode::WUSR) {
            // A process of the same number, dead or in another PID namespace, had that name.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(fd) => return Ok((File::from(fd), path)),
        }
    }
}

fn create_by_unlinking(dir: &Utf8Path) -> io::Result<File> {
    let (file, path) = create_named(dir, ".steading-")?;
    fs_err::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn both_ways_give_a_writable_file_that_no_directory_lists() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        for file in [create(dir).expect("create"), create_by_unlinking(dir).expect("unlink")] {
            file.set_len(10).expect("writable");
            assert_eq!(file.metadata().expect("stat").nlink(), 0);
        }
        assert_eq!(fs_err::read_dir(dir).expect("list").count(), 0);
    }
}
