//! The file as it was distributed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};
use sha2::Digest;
use steading_plan::Sha256;

use super::format::{Content, HEAD, TAIL, tell};
use super::known::FileStamp;
use super::{Format, ImageError, Progress};

/// Bytes read at a time.
pub(crate) const READ_SIZE: usize = 1 << 20;

/// An opened source that is known to be some accepted format.
#[derive(Debug)]
pub(crate) struct ImageFile {
    pub(crate) path: Utf8PathBuf,
    pub(crate) file: File,
    pub(crate) identity: FileStamp,
    pub(crate) format: Format,
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
    /// When it was opened.
    pub(crate) opened: SystemTime,
}

impl ImageFile {
    /// Opens it and tells its format.
    pub(crate) fn open(path: &Utf8Path) -> Result<Self, ImageError> {
        let image = || path.to_owned();
        let opened = SystemTime::now();
        // O_NONBLOCK: opening a named pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path.as_std_path(), flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| ImageError::Open { image: image(), source: errno.into() })?;
        let read_error = |source| ImageError::Read { image: image(), source };
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(ImageError::NotAFile { image: image() });
        }
        if metadata.len() == 0 {
            return Err(ImageError::Empty { image: image() });
        }
        let (head, content) = inspect(&file, metadata.len()).map_err(read_error)?;
        let format = accept(path, content, "it ")?;
        Ok(Self { path: image(), identity: FileStamp::of(&metadata), file, format, head, opened })
    }

    /// Its digest.
    pub(crate) fn digest(&self, progress: &mut dyn FnMut(Progress)) -> Result<Sha256, ImageError> {
        let total = self.identity.size;
        digest_of(&self.file, &mut |done| progress(Progress::Hashing { done, total }))
            .map_err(|source| ImageError::Read { image: self.path.clone(), source })
    }

    /// Fails if it was written to since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), ImageError> {
        let metadata =
            self.file.metadata().map_err(|source| ImageError::Read { image: self.path.clone(), source })?;
        if FileStamp::of(&metadata) == self.identity {
            Ok(())
        } else {
            Err(ImageError::Changed { image: self.path.clone() })
        }
    }
}

/// The digest of a whole file.
pub(crate) fn digest_of(file: &File, tick: &mut dyn FnMut(u64)) -> io::Result<Sha256> {
    let done = Cell::new(0);
    let mut reader = Digesting::new(file, &done);
    let mut buffer = vec![0; READ_SIZE];
    while super::sparse::fill(&mut reader, &mut buffer)? > 0 {
        tick(done.get());
    }
    Ok(reader.finish())
}

/// Reads the first and the last bytes of a file and tells what it is.
pub(crate) fn inspect(file: &File, length: u64) -> io::Result<(Vec<u8>, Content)> {
    let read = |size: usize, at: u64| {
        let mut bytes = vec![0; usize::try_from(length - at).map_or(size, |rest| size.min(rest))];
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let head = read(HEAD, 0)?;
    let tail = read(TAIL, length.saturating_sub(TAIL as u64))?;
    let content = tell(&head, &tail);
    Ok((head, content))
}

/// The format, unless the content is something that cannot be used.
pub(crate) fn accept(path: &Utf8Path, content: Content, place: &'static str) -> Result<Format, ImageError> {
    let image = path.to_owned();
    match content {
        Content::Image(format) => Ok(format),
        Content::Encrypted(method) => Err(ImageError::Encrypted { image, method }),
        Content::Foreign { looks_like, advice } => {
            Err(ImageError::WrongFormat { image, place, looks_like, advice })
        }
        Content::Tar => Err(ImageError::WrongFormat {
            image,
            place,
            looks_like: "a tar archive without compression",
            advice: "compress it with zstd or gzip",
        }),
    }
}

/// Reads a file from its start and digests what it reads, so that unpacking needs one pass.
pub(crate) struct Digesting<'a> {
    file: &'a File,
    digest: sha2::Sha256,
    position: &'a Cell<u64>,
}

impl<'a> Digesting<'a> {
    /// Starts; `position` always tells how much was read.
    pub(crate) fn new(file: &'a File, position: &'a Cell<u64>) -> Self {
        Self { file, digest: sha2::Sha256::new(), position }
    }

    /// The digest of what was read.
    pub(crate) fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.digest.finalize().into())
    }
}

impl Read for Digesting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position.get())?;
        self.digest.update(&buffer[..count]);
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}
