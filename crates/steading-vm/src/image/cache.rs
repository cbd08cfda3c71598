//! The image cache of a host.
//!
//! | path | what |
//! | --- | --- |
//! | `images/<sha256>.raw` | an unpacked image: sparse, read-only, named by the digest of its *source* |
//! | `images/<sha256>.json` | its record: sizes and format; appears before the raw file |
//! | `locks/<sha256>` | held while the image is made; its time is that of the last use |
//! | `locks/source-…` | held while a source of unknown digest is unpacked |
//! | `known/<uid>-…` | a user's notes of digests, by device, inode, size and times |
//!
//! Whatever is killed at whatever moment: an entry is there and complete, or it is not there. It is
//! flushed to the disk before it gets its name, because it is trusted for its size alone from then on,
//! and after a loss of power a file system may keep a file's size and lose its data.
//!
//! # Who trusts whom
//!
//! A cache below a user's home is that user's alone. A shared one, `/var/cache/steading` with mode 1777
//! made by root, is used by everybody who may write to it, and *those who share it trust each other's
//! entries*, as with any shared build cache: an entry cannot be checked against its digest without
//! unpacking the source again. To avoid that, set `STEADING_CACHE_DIR` to a directory of
//! your own. What holds even so: nobody can replace or remove another user's entry (sticky bit) or make
//! us write through a symbolic link (`O_NOFOLLOW`, `O_EXCL`, files that get their name when they are
//! complete); an entry that anybody could write to is not used; and which digest a source has is decided
//! by the caller's own reading of it, never by another user's note.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::Access;
use steading_plan::{Sha256, env_vars};

use super::aside::Aside;
use super::entry::{CacheState, EntryRecord, Image, find, raw_path, read_record, record_path};
use super::lock::{self, Lock};
use super::source::{ImageFile, digest_of};
use super::unpack::{Unpacked, unpack};
use super::{Format, ImageError, Progress, known};

const SHARED: &str = "/var/cache/steading";
const STICKY_FOR_ALL: u32 = 0o1777;

/// Images that were unpacked on this host.
#[derive(Debug, Clone)]
pub struct ImageCache {
    dir: Utf8PathBuf,
    images: Utf8PathBuf,
    locks: Utf8PathBuf,
    known: Utf8PathBuf,
}

/// One image in the cache, for a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The digest of the source.
    pub sha256: Sha256,
    /// The raw file.
    pub path: Utf8PathBuf,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes that it takes on the file system.
    pub allocated: u64,
    /// What the source was; `None` if the record is damaged.
    pub format: Option<Format>,
    /// The user who made it.
    pub owner: u32,
    /// When it was last asked for.
    pub last_used: SystemTime,
}

impl ImageCache {
    /// Opens the cache in `dir`, and makes the directory if it is missing.
    ///
    /// Below a directory for all (mode 1777), what is made is for all too.
    pub fn open(dir: &Utf8Path) -> Result<Self, ImageError> {
        let error = |source| ImageError::Cache { action: "make", path: dir.to_owned(), source };
        fs_err::create_dir_all(dir).map_err(error)?;
        let is_shared = mode_of(dir).map_err(error)? & STICKY_FOR_ALL == STICKY_FOR_ALL;
        let cache = Self {
            dir: dir.to_owned(),
            images: dir.join("images"),
            locks: dir.join("locks"),
            known: dir.join("known"),
        };
        for part in [&cache.images, &cache.locks, &cache.known] {
            ensure_dir(part, is_shared)?;
        }
        Ok(cache)
    }

    /// Where the cache of this host is, for this user.
    ///
    /// `$STEADING_CACHE_DIR`; else the first that can be written to of `/var/cache/steading`,
    /// `$XDG_CACHE_HOME/steading`, `$HOME/.cache/steading` and `$TEST_TMPDIR/steading`; else
    /// `/var/tmp/steading-<uid>`.
    pub fn default_dir() -> Utf8PathBuf {
        let uid = rustix::process::geteuid().as_raw();
        default_dir(&|name| std::env::var(name).ok(), uid, &is_writable, &|path| {
            fs_err::symlink_metadata(path).map_or(true, |m| m.is_dir() && m.uid() == uid)
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// The image whose source has this digest, if it is unpacked and sound.
    ///
    /// # Errors
    ///
    /// When the cache cannot be read.
    pub fn find(&self, sha256: &Sha256) -> Result<Option<Image>, ImageError> {
        Ok(match find(&self.images, sha256)? {
            CacheState::Sound(record) => Some(self.hit(&record)),
            CacheState::Nothing | CacheState::Damaged { .. } => None,
        })
    }

    /// Unpacks the image `source` unless that was done before.
    ///
    /// Its format is told by its content. If `expected` is given and is not the digest of the source,
    /// that is an error. Of several processes that ask for the same image at once, one unpacks it.
    pub fn prepare(
        &self,
        source: &Utf8Path,
        expected: Option<Sha256>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, ImageError> {
        let source = ImageFile::open(source)?;
        let known = known::recall(&self.known, &source.identity);
        if let Some(sha256) = known {
            check_expected(&source, sha256, expected)?;
            if let CacheState::Sound(record) = find(&self.images, &sha256)? {
                return Ok(self.hit(&record));
            }
        }
        let name =
            known.or(expected).map_or_else(|| source.identity.lock_name(), |sha256| sha256.to_string());
        let lock = Lock::take(&self.locks, &name, &mut || progress(Progress::Waiting)).map_err(|source| {
            ImageError::Cache { action: "take a lock in", path: self.locks.clone(), source }
        })?;
        let result = self.prepare_locked(&source, expected, progress);
        if name.starts_with("source-") || result.is_err() {
            lock.remove();
        }
        result
    }

    /// The digest of a file that is no image of a VM. It is read only if no note of it is to be believed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn digest(&self, file: &mut File) -> io::Result<Sha256> {
        let since = SystemTime::now();
        let identity = known::FileStamp::of(&file.metadata()?);
        if let Some(sha256) = known::recall(&self.known, &identity) {
            return Ok(sha256);
        }
        let sha256 = digest_of(file, &mut |_| {})?;
        // It saves time, and nothing else.
        let _ = known::remember(&self.known, &identity, sha256, since);
        Ok(sha256)
    }

    /// The images in the cache, in the order of their digests.
    pub fn list(&self) -> Result<Vec<Entry>, ImageError> {
        let error = |source| ImageError::Cache { action: "list", path: self.images.clone(), source };
        let mut entries = Vec::new();
        for entry in fs_err::read_dir(&self.images).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.strip_suffix(".raw")) else { continue };
            let Ok(sha256) = Sha256::from_str(digest) else { continue };
            let path = raw_path(&self.images, &sha256);
            // It may have been removed in the meantime.
            let Ok(metadata) = fs_err::symlink_metadata(&path) else { continue };
            let made = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry {
                sha256,
                path,
                size: metadata.len(),
                allocated: metadata.blocks() * 512,
                format: read_record(&self.images, &sha256).map(|record| record.format),
                owner: metadata.uid(),
                last_used: lock::touched(&self.locks, digest).map_or(made, |used| used.max(made)),
            });
        }
        entries.sort_by_key(|entry| entry.sha256);
        Ok(entries)
    }

    /// Removes an image; tells whether there was one.
    ///
    /// VMs that have it open keep it until they end.
    pub fn remove(&self, sha256: &Sha256) -> Result<bool, ImageError> {
        let name = sha256.to_string();
        let lock = Lock::take(&self.locks, &name, &mut || ()).map_err(|source| ImageError::Cache {
            action: "take a lock in",
            path: self.locks.clone(),
            source,
        })?;
        let is_removed = self.remove_files(sha256)?;
        lock.remove();
        Ok(is_removed)
    }

    /// Removes the images of this user (for root: of all) that nobody asked for in that time, and what
    /// killed processes left. Returns what was removed.
    pub fn remove_unused(&self, unused_for: Duration) -> Result<Vec<Entry>, ImageError> {
        super::aside::remove_stale(&self.images);
        let uid = rustix::process::geteuid().as_raw();
        let now = SystemTime::now();
        let mut removed = Vec::new();
        for entry in self.list()? {
            let is_unused = now.duration_since(entry.last_used).is_ok_and(|age| age >= unused_for);
            if !is_unused || (uid != 0 && entry.owner != uid) {
                continue;
            }
            // Whoever holds the lock is about to use it.
            let Ok(Some(lock)) = Lock::try_take(&self.locks, &entry.sha256.to_string()) else { continue };
            if self.remove_files(&entry.sha256)? {
                removed.push(entry);
            }
            lock.remove();
        }
        Ok(removed)
    }

    fn prepare_locked(
        &self,
        source: &ImageFile,
        expected: Option<Sha256>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, ImageError> {
        // Whoever held the lock before us may have done the work.
        let mut known = known::recall(&self.known, &source.identity);
        // Reading alone is far quicker than unpacking, and likely enough where an entry has that size.
        if known.is_none() && self.may_have(source, expected) {
            let sha256 = source.digest(progress)?;
            source.check_unchanged()?;
            self.note(source, sha256);
            known = Some(sha256);
        }
        if let Some(sha256) = known {
            check_expected(source, sha256, expected)?;
            match find(&self.images, &sha256)? {
                CacheState::Sound(record) => return Ok(self.hit(&record)),
                CacheState::Nothing => {}
                CacheState::Damaged { evidence, owner } => self.remove_damaged(&sha256, &evidence, owner)?,
            }
        }
        self.build(source, expected, progress)
    }

    fn build(
        &self,
        source: &ImageFile,
        expected: Option<Sha256>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, ImageError> {
        let error = |action| move |source| ImageError::Cache { action, path: self.images.clone(), source };
        let aside = Aside::create(&self.images).map_err(error("write in"))?;
        let Unpacked { sha256, size } = unpack(source, aside.file(), &self.images, progress)?;
        source.check_unchanged()?;
        check_expected(source, sha256, expected)?;
        aside.file().sync_all().map_err(error("flush an image in"))?;

        let record = EntryRecord { sha256, format: source.format, source_size: source.identity.size, size };
        match find(&self.images, &sha256)? {
            // The same image by another path, meanwhile.
            CacheState::Sound(record) => return Ok(self.hit(&record)),
            CacheState::Nothing => {}
            CacheState::Damaged { evidence, owner } => self.remove_damaged(&sha256, &evidence, owner)?,
        }
        self.publish_record(&record)?;
        match aside.publish(&raw_path(&self.images, &sha256), 0o444) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => drop(result.map_err(error("write in"))?),
        }
        self.note(source, sha256);
        Ok(self.hit(&record))
    }

    fn publish_record(&self, record: &EntryRecord) -> Result<(), ImageError> {
        let path = record_path(&self.images, &record.sha256);
        let publish = || -> io::Result<()> {
            let aside = Aside::create(&self.images)?;
            serde_json::to_writer(aside.file(), record)?;
            aside.file().sync_all()?;
            // What is there is of somebody who was killed before the raw file got its name.
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            aside.publish(&path, 0o444).map(drop)
        };
        match publish() {
            Err(_) if read_record(&self.images, &record.sha256).as_ref() == Some(record) => Ok(()),
            result => result.map_err(|source| ImageError::Cache { action: "write", path, source }),
        }
    }

    fn hit(&self, record: &EntryRecord) -> Image {
        lock::touch(&self.locks, &record.sha256.to_string());
        Image {
            sha256: record.sha256,
            path: raw_path(&self.images, &record.sha256),
            size: record.size,
            format: record.format,
        }
    }

    /// Notes a digest; best effort, as it only saves time.
    fn note(&self, source: &ImageFile, sha256: Sha256) {
        let _ = known::remember(&self.known, &source.identity, sha256, source.opened);
    }

    fn may_have(&self, source: &ImageFile, expected: Option<Sha256>) -> bool {
        let has_size = |sha256: &Sha256| {
            read_record(&self.images, sha256).is_some_and(|record| record.source_size == source.identity.size)
        };
        match expected {
            Some(sha256) => has_size(&sha256),
            None => self.list().is_ok_and(|entries| entries.iter().any(|entry| has_size(&entry.sha256))),
        }
    }

    fn remove_damaged(&self, sha256: &Sha256, evidence: &str, owner: u32) -> Result<(), ImageError> {
        self.remove_files(sha256).map(drop).map_err(|error| match error {
            ImageError::Cache { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ImageError::DamagedEntry { path, evidence: evidence.to_owned(), owner }
            }
            other => other,
        })
    }

    /// Removes raw file and record, in this order: a raw file has a record for as long as it is there.
    fn remove_files(&self, sha256: &Sha256) -> Result<bool, ImageError> {
        let remove = |path: Utf8PathBuf| match fs_err::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ImageError::Cache { action: "remove", path, source }),
        };
        let is_removed = remove(raw_path(&self.images, sha256))?;
        remove(record_path(&self.images, sha256))?;
        Ok(is_removed)
    }
}

fn check_expected(source: &ImageFile, actual: Sha256, expected: Option<Sha256>) -> Result<(), ImageError> {
    match expected {
        Some(expected) if expected != actual => {
            Err(ImageError::WrongHash { image: source.path.clone(), expected, actual })
        }
        _ => Ok(()),
    }
}

fn mode_of(dir: &Utf8Path) -> io::Result<u32> {
    Ok(fs_err::metadata(dir)?.permissions().mode() & 0o7777)
}

/// Makes a directory of the cache, for all users if the cache is.
fn ensure_dir(dir: &Utf8Path, is_shared: bool) -> Result<(), ImageError> {
    let error = |source| ImageError::Cache { action: "make", path: dir.to_owned(), source };
    match fs_err::create_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(error(source)),
        _ => {}
    }
    let metadata = fs_err::symlink_metadata(dir).map_err(error)?;
    if !metadata.is_dir() {
        let what = "is not a directory, but a link or a file".to_owned();
        return Err(ImageError::Untrusted { path: dir.to_owned(), what });
    }
    let mode = metadata.mode() & 0o7777;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if is_shared && is_own && mode & STICKY_FOR_ALL != STICKY_FOR_ALL {
        fs_err::set_permissions(dir, PermissionsExt::from_mode(STICKY_FOR_ALL)).map_err(error)?;
    } else if !is_shared && mode & 0o1002 == 0o0002 {
        let what = format!("lets everybody remove what others made (mode {mode:o}, not sticky)");
        return Err(ImageError::Untrusted { path: dir.to_owned(), what });
    }
    Ok(())
}

/// Whether this directory, or the nearest above it that exists, can be written to.
fn is_writable(dir: &Utf8Path) -> bool {
    let existing = dir.ancestors().find(|dir| dir.exists());
    existing
        .is_some_and(|dir| rustix::fs::access(dir.as_std_path(), Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

fn default_dir(
    variable: &dyn Fn(&str) -> Option<String>,
    uid: u32,
    is_writable: &dyn Fn(&Utf8Path) -> bool,
    is_own_or_missing: &dyn Fn(&Utf8Path) -> bool,
) -> Utf8PathBuf {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable(env_vars::STEADING_CACHE_DIR) {
        return dir.into();
    }
    // The XDG base directory specification: a relative path is to be ignored.
    let absolute = |dir: String| Some(Utf8PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    let candidates = [
        Some(SHARED.into()),
        variable(env_vars::XDG_CACHE_HOME).and_then(absolute).map(|dir| dir.join("steading")),
        variable(env_vars::HOME).and_then(absolute).map(|dir| dir.join(".cache/steading")),
        // In Bazel's sandbox the others are read-only, unless it is told otherwise.
        variable(env_vars::TEST_TMPDIR).and_then(absolute).map(|dir| dir.join("steading")),
    ];
    if let Some(dir) = candidates.into_iter().flatten().find(|dir| is_writable(dir)) {
        return dir;
    }
    // Anybody can make that name before us; then it is not ours to use.
    let own = Utf8PathBuf::from(format!("/var/tmp/steading-{uid}"));
    if is_own_or_missing(&own) {
        return own;
    }
    let others = (1..100).map(|n| Utf8PathBuf::from(format!("{own}-{n}")));
    others.into_iter().find(|dir| is_own_or_missing(dir)).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(variables: &[(&str, &str)], writable: &[&str], foreign: &[&str]) -> Utf8PathBuf {
        default_dir(
            &|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
            1001,
            &|dir| writable.iter().any(|w| dir.as_str() == *w),
            &|dir| !foreign.iter().any(|f| dir.as_str() == *f),
        )
    }

    #[test]
    fn the_cache_is_where_this_user_can_write_and_the_variable_comes_first() {
        let home = [("HOME", "/home/a"), ("XDG_CACHE_HOME", "")];
        let all = ["/var/cache/steading", "/home/a/.cache/steading", "/x/steading"];
        assert_eq!(choose(&[("STEADING_CACHE_DIR", "/c"), ("HOME", "/home/a")], &all, &[]), "/c");
        assert_eq!(choose(&home, &all, &[]), "/var/cache/steading");
        assert_eq!(choose(&[("XDG_CACHE_HOME", "/x"), home[0]], &all[1..], &[]), "/x/steading");
        assert_eq!(choose(&[("XDG_CACHE_HOME", "x"), home[0]], &all[1..], &[]), "/home/a/.cache/steading");
        assert_eq!(choose(&home, &all[1..2], &[]), "/home/a/.cache/steading");
        let bazel = [home[0], ("TEST_TMPDIR", "/sandbox/tmp")];
        assert_eq!(choose(&bazel, &["/sandbox/tmp/steading"], &[]), "/sandbox/tmp/steading");
        assert_eq!(choose(&bazel, &[&all[..], &["/sandbox/tmp/steading"]].concat(), &[]), all[0]);
        assert_eq!(choose(&home, &[], &[]), "/var/tmp/steading-1001");
        assert_eq!(choose(&[], &[], &["/var/tmp/steading-1001"]), "/var/tmp/steading-1001-1");
    }
}
