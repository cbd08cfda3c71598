//! A file that is served, and how it is known to be what it was.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use steading_plan::{FileSource, Sha256};

use crate::FileError;

/// How much is read at once for a digest.
const PIECE: usize = 1 << 20;

/// A file whose digest was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFile {
    /// What it is called.
    pub name: String,
    /// Where it is; absolute.
    pub path: Utf8PathBuf,
    /// Its digest.
    pub sha256: Sha256,
    stamp: Stamp,
}

/// What `stat` says of a file. If it is the same, so is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

impl ServedFile {
    /// Opens a file and takes its digest, by this function, which may know it already.
    ///
    /// # Errors
    ///
    /// When it has no good name, is no regular file, cannot be read, or is another than expected.
    pub fn read(
        source: &FileSource,
        digest: impl FnOnce(&mut File) -> io::Result<Sha256>,
    ) -> Result<Self, FileError> {
        let name = source.served_name()?.to_owned();
        let failed = |source_error| FileError::Read {
            name: name.clone(),
            path: source.path.clone(),
            source: source_error,
        };
        let path = std::path::absolute(&source.path).map_err(failed)?;
        let path = Utf8PathBuf::try_from(path).map_err(|error| failed(io::Error::other(error)))?;
        let mut file = open(&path).map_err(failed)?;
        let data = file.metadata().map_err(failed)?;
        if !data.is_file() {
            return Err(FileError::NoFile { name, path });
        }
        let sha256 = digest(&mut file).map_err(failed)?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        if stamp != Stamp::of(&data) {
            return Err(FileError::Changed { name, path });
        }
        match source.sha256 {
            Some(expected) if expected != sha256 => {
                Err(FileError::Digest { name, path, expected, found: sha256 })
            }
            _ => Ok(Self { name, path, sha256, stamp }),
        }
    }

    /// The same file, if it lies where it was, be it a copy: its digest is computed again unless nothing has
    /// touched it. For a group that goes on, perhaps elsewhere.
    ///
    /// # Errors
    ///
    /// When it has vanished or is another.
    pub fn found_again(&self) -> Result<Self, FileError> {
        match self.open() {
            Ok(_) => Ok(self.clone()),
            Err(FileError::Changed { name, path }) => {
                let source = FileSource::new(&*path).name(&*name).sha256(self.sha256);
                Self::read(&source, digest).map_err(|_| FileError::Changed { name, path })
            }
            Err(error) => Err(error),
        }
    }

    /// How long it is, in bytes.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Opens it, and makes sure that it is what it was.
    ///
    /// # Errors
    ///
    /// When it has vanished or changed since.
    pub fn open(&self) -> Result<File, FileError> {
        let (name, path) = (self.name.clone(), self.path.clone());
        match open(&self.path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((data, file)) if Stamp::of(&data) == self.stamp => Ok(file),
            Ok(_) => Err(FileError::Changed { name, path }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(FileError::Vanished { name, path })
            }
            Err(source) => Err(FileError::Read { name, path, source }),
        }
    }
}

/// Opening a FIFO must not wait for somebody to write into it.
fn open(path: &Utf8PathBuf) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

/// The digest of what is left to read of a file.
///
/// # Errors
///
/// When it cannot be read.
pub fn digest(file: &mut File) -> io::Result<Sha256> {
    let mut sha256 = sha2::Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Sha256::from_bytes(sha256.finalize().into())),
            read => sha256.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use fs_err as fs;

    use super::*;

    fn in_directory(test: impl FnOnce(&Utf8Path)) {
        let dir = tempfile::tempdir().unwrap();
        test(Utf8Path::from_path(dir.path()).unwrap());
    }

    fn read(source: &FileSource) -> Result<ServedFile, FileError> {
        ServedFile::read(source, digest)
    }

    #[test]
    fn a_file_has_its_digest_and_size() {
        in_directory(|dir| {
            fs::write(dir.join("update.img"), "abc").unwrap();
            let file = read(&FileSource::new(dir.join("update.img"))).unwrap();
            assert_eq!((file.name.as_str(), file.size()), ("update.img", 3));
            assert_eq!(file.sha256, Sha256::of("abc"));
            assert!(file.open().is_ok());
        });
    }

    #[test]
    fn what_is_no_file_is_refused() {
        in_directory(|dir| {
            let refused = |path: &Utf8Path| read(&FileSource::new(path)).unwrap_err().to_string();
            assert!(refused(dir).contains("is no regular file"), "{}", refused(dir));
            assert!(refused(&dir.join("none")).contains("cannot read"), "{}", refused(&dir.join("none")));
            let fifo = dir.join("fifo");
            let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
            assert!(made.success());
            assert!(refused(&fifo).contains("is no regular file"), "{}", refused(&fifo));
        });
    }

    #[test]
    fn another_digest_than_expected_is_told_with_both() {
        in_directory(|dir| {
            fs::write(dir.join("f"), "abc").unwrap();
            let source = FileSource::new(dir.join("f")).sha256(Sha256::of("abd"));
            let said = read(&source).unwrap_err().to_string();
            assert!(said.contains(&Sha256::of("abc").to_string()), "{said}");
            assert!(said.contains(&Sha256::of("abd").to_string()), "{said}");
        });
    }

    #[test]
    fn a_file_that_vanished_or_changed_is_told_apart_and_a_copy_is_found_again() {
        in_directory(|dir| {
            let path = dir.join("f");
            fs::write(&path, "abc").unwrap();
            let file = read(&FileSource::new(&path)).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(matches!(file.open(), Err(FileError::Vanished { .. })));
            assert!(matches!(file.found_again(), Err(FileError::Vanished { .. })));
            fs::write(&path, "abcd").unwrap();
            assert!(matches!(file.open(), Err(FileError::Changed { .. })));
            assert!(matches!(file.found_again(), Err(FileError::Changed { .. })));
            fs::write(dir.join("copy"), "abc").unwrap();
            fs::rename(dir.join("copy"), &path).unwrap();
            assert!(matches!(file.open(), Err(FileError::Changed { .. })));
            let again = file.found_again().unwrap();
            assert!(again.open().is_ok());
            assert_eq!(again.sha256, file.sha256);
        });
    }
}
