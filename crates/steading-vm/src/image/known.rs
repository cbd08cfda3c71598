//! Digests of files that were read before.
//!
//! Reading hundreds of megabytes only to learn that the image is in the cache would cost every run a
//! second. So the digest of a source is remembered by what `stat` says of it: device, inode, size and
//! the two times that change when it is written to. Only a user's own notes (and root's) are believed,
//! for they stand in for the digest.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use steading_plan::Sha256;

use super::aside::Aside;

/// A change within so short a time may leave a file's times as they were: the kernel takes them from
/// its clock tick, of at most 10 ms.
const CLOCK_TICK: Duration = Duration::from_millis(20);
/// A note is far smaller, in bytes.
const NOTE_MAX: u64 = 4096;

/// What `stat` says of a file; if it is the same, so is the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// A name for this file's lock, whatever its content.
    pub(crate) fn lock_name(&self) -> String {
        format!("source-{:x}-{:x}", self.device, self.inode)
    }

    /// Whether every change after `moment` shows in the times.
    fn is_settled_at(&self, moment: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        let nanos = u32::try_from(self.changed.1).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos) + CLOCK_TICK <= moment
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    file: FileStamp,
    sha256: Sha256,
}

/// The digest noted for this file, if there is one to believe.
pub(crate) fn recall(dir: &Utf8Path, identity: &FileStamp) -> Option<Sha256> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = rustix::fs::open(note_path(dir, identity).as_std_path(), flags, Mode::empty()).ok()?;
    let file = File::from(fd);
    let metadata = file.metadata().ok()?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || ![own, 0].contains(&metadata.uid()) {
        return None;
    }
    let mut text = Vec::new();
    file.take(NOTE_MAX).read_to_end(&mut text).ok()?;
    let note: Note = serde_json::from_slice(&text).ok()?;
    (note.file == *identity).then_some(note.sha256)
}

/// Notes the digest of a file that was read from `read_since` on.
///
/// A file that changed just before is not noted: it might change again without a trace.
pub(crate) fn remember(
    dir: &Utf8Path,
    identity: &FileStamp,
    sha256: Sha256,
    read_since: SystemTime,
) -> io::Result<()> {
    if !identity.is_settled_at(read_since) {
        return Ok(());
    }
    let path = note_path(dir, identity);
    let aside = Aside::create(dir)?;
    serde_json::to_writer(aside.file(), &Note { file: *identity, sha256 })?;
    aside.file().flush()?;
    match fs_err::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    aside.publish(&path, 0o644).map(drop)
}

/// Each user has notes of his own: in a shared directory nobody could replace another's.
fn note_path(dir: &Utf8Path, identity: &FileStamp) -> Utf8PathBuf {
    let key = format!("{} {}", identity.device, identity.inode);
    let mut digest = Sha256::of(key).to_string();
    digest.truncate(24);
    dir.join(format!("{}-{digest}.json", rustix::process::geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        _temp: tempfile::TempDir,
        dir: Utf8PathBuf,
        identity: FileStamp,
    }

    fn fixture() -> Fixture {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8").to_owned();
        let identity = FileStamp::of(&fs_err::metadata(&dir).expect("stat"));
        Fixture { _temp: temp, dir, identity }
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(1)
    }

    #[test]
    fn a_note_is_recalled_for_the_same_file_only() {
        let f = fixture();
        let sha256 = Sha256::of("a");
        assert_eq!(recall(&f.dir, &f.identity), None);
        remember(&f.dir, &f.identity, sha256, later()).expect("note");
        assert_eq!(recall(&f.dir, &f.identity), Some(sha256));
        let changed = (f.identity.changed.0, f.identity.changed.1 ^ 1);
        assert_eq!(recall(&f.dir, &FileStamp { changed, ..f.identity }), None);
        // A newer state of the file replaces the note of the older.
        let newer = FileStamp { size: 7, ..f.identity };
        remember(&f.dir, &newer, Sha256::of("b"), later()).expect("note");
        assert_eq!(recall(&f.dir, &newer), Some(Sha256::of("b")));
        assert_eq!(recall(&f.dir, &f.identity), None);
    }

    #[test]
    fn a_damaged_note_is_as_good_as_none() {
        let f = fixture();
        remember(&f.dir, &f.identity, Sha256::of("a"), later()).expect("note");
        let path = note_path(&f.dir, &f.identity);
        let whole = fs_err::read(&path).expect("read");
        for damaged in [&b""[..], b"\0\0\0", &whole[..whole.len() / 2], b"{}"] {
            fs_err::remove_file(&path).expect("remove");
            fs_err::write(&path, damaged).expect("write");
            assert_eq!(recall(&f.dir, &f.identity), None);
            remember(&f.dir, &f.identity, Sha256::of("a"), later()).expect("note");
            assert_eq!(recall(&f.dir, &f.identity), Some(Sha256::of("a")));
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_noted() {
        let f = fixture();
        let changed_at = SystemTime::UNIX_EPOCH
            + Duration::new(
                f.identity.changed.0.unsigned_abs(),
                u32::try_from(f.identity.changed.1).expect("ns"),
            );
        remember(&f.dir, &f.identity, Sha256::of("a"), changed_at).expect("nothing to do");
        assert_eq!(recall(&f.dir, &f.identity), None);
    }
}
