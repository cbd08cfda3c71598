//! Locks between the processes and users that share a cache.
//!
//! A lock is an `flock` on an empty file: the kernel frees it with its holder, however that ends. The
//! descriptor is close-on-exec, so that no helper program inherits the lock. The files are writable
//! for all, since the next to take a lock may be another user.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::aside::Aside;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: Utf8PathBuf,
}

impl Lock {
    /// Takes the lock `name` in `dir`; calls `waiting` once if somebody else holds it.
    pub fn take(dir: &Utf8Path, name: &str, waiting: &mut dyn FnMut()) -> io::Result<Self> {
        let path = dir.join(name);
        let mut has_told = false;
        loop {
            let file = open_or_create(dir, &path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    if !std::mem::replace(&mut has_told, true) {
                        waiting();
                    }
                    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
                }
                result => result?,
            }
            if is_still_there(&file, &path)? {
                return Ok(Self { _file: file, path });
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_take(dir: &Utf8Path, name: &str) -> io::Result<Option<Self>> {
        let path = dir.join(name);
        let file = open_or_create(dir, &path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            result => {
                result?;
                Ok(is_still_there(&file, &path)?.then_some(Self { _file: file, path }))
            }
        }
    }

    /// Removes the lock's file while holding it: those who wait see that and start again.
    pub fn remove(self) {
        // In a shared directory only the file's owner can; an empty file more does no harm.
        let _ = fs_err::remove_file(&self.path);
    }
}

/// Notes in a lock's file that what it stands for was used; best effort, as a cache may be read-only.
pub fn touch(dir: &Utf8Path, name: &str) {
    let Ok(file) = open_or_create(dir, &dir.join(name)) else { return };
    let now = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    // Both times "now" is what a user who does not own the file may set (utimensat(2)).
    let both = Timestamps { last_access: now.last_modification, ..now };
    let _ = rustix::fs::futimens(&file, &both);
}

/// When [`touch`] was last called.
pub fn touched(dir: &Utf8Path, name: &str) -> Option<SystemTime> {
    fs_err::symlink_metadata(dir.join(name)).ok()?.modified().ok()
}

fn open_or_create(dir: &Utf8Path, path: &Utf8Path) -> io::Result<File> {
    loop {
        // Never with O_CREAT: in a sticky directory the kernel then refuses another user's file
        // (`fs.protected_regular`, proc_sys_fs(5)).
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(path.as_std_path(), flags, Mode::empty()) {
            Ok(fd) => return Ok(File::from(fd)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        // Made aside, so that nobody ever sees it with narrower permissions.
        match Aside::create(dir)?.publish(path, 0o666) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => drop(result?),
        }
    }
}

/// Whether `path` still names the locked file; if not, the lock protects nothing.
fn is_still_there(file: &File, path: &Utf8Path) -> io::Result<bool> {
    let locked = file.metadata()?;
    match fs_err::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[test]
    fn the_second_taker_is_told_that_it_waits_and_gets_the_lock_afterwards() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8");
        let first = Lock::take(dir, "a", &mut || panic!("nobody holds it")).expect("lock");
        assert!(Lock::try_take(dir, "a").expect("try").is_none());
        let (told, is_told) = mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(move || {
                // The first one removes the file under the second one's feet: it must start anew.
                Lock::take(dir, "a", &mut || told.send(()).expect("receiver")).map(|lock| lock.path.exists())
            });
            is_told.recv().expect("waiting");
            first.remove();
            assert!(
                second.join().expect("no panic").expect("lock"),
                "the file that is locked is the one with the name"
            );
        });
    }

    #[test]
    fn at_most_one_holds_a_lock_whose_file_comes_and_goes() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8");
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = Lock::take(dir, "a", &mut || ()).expect("lock");
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        lock.remove();
                    }
                });
            }
        });
    }

    #[test]
    fn lock_files_are_writable_for_every_user_whatever_the_umask() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8");
        touch(dir, "a");
        assert_eq!(fs_err::metadata(dir.join("a")).expect("stat").permissions().mode() & 0o777, 0o666);
        assert!(touched(dir, "a").is_some());
    }
}
