//! One image in the cache: its raw file, and the record next to it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use steading_plan::Sha256;

use super::{Format, ImageError, empty_overlay};

const RECORD_MAX: u64 = 4096;

/// An image that is ready to use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of the source as it was distributed: the image's identity.
    pub sha256: Sha256,
    /// The raw file in the cache.
    pub path: Utf8PathBuf,
    /// Bytes of the disk.
    pub size: u64,
    /// What the source was.
    pub format: Format,
}

impl Image {
    /// Opens the raw file for reading: the base of every overlay.
    ///
    /// The descriptor stays good when the entry is removed from the cache.
    pub fn open(&self) -> Result<File, ImageError> {
        let gone = || ImageError::Gone { path: self.path.clone() };
        match open_regular(&self.path) {
            Ok((file, size)) if size == self.size => Ok(file),
            Ok(_) => Err(gone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone()),
            Err(source) => Err(ImageError::Cache { action: "open", path: self.path.clone(), source }),
        }
    }

    /// The bytes of a disk that begins with this image: `size`, or as many as the image has.
    ///
    /// # Errors
    ///
    /// When the image does not fit.
    pub fn disk_size(&self, size: Option<u64>) -> Result<u64, ImageError> {
        match size {
            Some(asked) if asked < self.size => Err(ImageError::OverlayTooSmall { asked, base: self.size }),
            size => Ok(size.unwrap_or(self.size)),
        }
    }

    /// Makes an overlay for one VM, of the image's size or of `size` bytes, rounded up to 512.
    ///
    /// See [`empty_overlay`]. QEMU is given [`Image::open`] as its backing file.
    pub fn overlay(&self, scratch: &Utf8Path, size: Option<u64>) -> Result<File, ImageError> {
        empty_overlay(scratch, self.disk_size(size)?)
    }
}

/// What is recorded next to a raw file when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryRecord {
    pub(crate) sha256: Sha256,
    pub(crate) format: Format,
    /// Bytes of the source.
    pub(crate) source_size: u64,
    /// Bytes of the raw file.
    pub(crate) size: u64,
}

/// What the cache has under a digest.
#[derive(Debug)]
pub(crate) enum CacheState {
    Nothing,
    Sound(EntryRecord),
    Damaged { evidence: String, owner: u32 },
}

pub(crate) fn raw_path(images: &Utf8Path, sha256: &Sha256) -> Utf8PathBuf {
    images.join(format!("{sha256}.raw"))
}

pub(crate) fn record_path(images: &Utf8Path, sha256: &Sha256) -> Utf8PathBuf {
    images.join(format!("{sha256}.json"))
}

/// Looks at an entry.
///
/// The record appears before the raw file does, so a raw file without a sound record is damaged.
pub(crate) fn find(images: &Utf8Path, sha256: &Sha256) -> Result<CacheState, ImageError> {
    let path = raw_path(images, sha256);
    let metadata = match fs_err::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CacheState::Nothing),
        result => {
            result.map_err(|source| ImageError::Cache { action: "look at", path: path.clone(), source })?
        }
    };
    let damaged = |evidence: String| Ok(CacheState::Damaged { evidence, owner: metadata.uid() });
    if !metadata.is_file() {
        return damaged("it is not a regular file".to_owned());
    }
    let Some(record) = read_record(images, sha256) else {
        return damaged("its record is missing or cannot be read".to_owned());
    };
    if metadata.len() != record.size {
        return damaged(format!("it has {} bytes, not {}", metadata.len(), record.size));
    }
    if metadata.mode() & 0o222 != 0 {
        return damaged(format!("its mode {:o} lets it be written to", metadata.mode() & 0o7777));
    }
    Ok(CacheState::Sound(record))
}

/// The record of an entry, unless it is missing or damaged.
pub(crate) fn read_record(images: &Utf8Path, sha256: &Sha256) -> Option<EntryRecord> {
    let (file, _) = open_regular(&record_path(images, sha256)).ok()?;
    let mut text = Vec::new();
    file.take(RECORD_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok().filter(|record: &EntryRecord| record.sha256 == *sha256)
}

/// Opens a regular file for reading, not through a symbolic link; also tells its length.
fn open_regular(path: &Utf8Path) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path.as_std_path(), flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
