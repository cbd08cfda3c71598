//! From a source to a sparse raw file.
//!
//! Compressed and raw sources are read once: what is read goes through the digest and the decoder at
//! the same time. A qcow2 source is read twice, by us for its digest and by `qemu-img` to convert it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read as _};

use std::process::Stdio;

use steading_plan::Sha256;
use steading_sys::process::{self, RunError};

use super::format::{Content, HEAD, tell};
use super::qcow2::{self, FeatureFault};
use super::source::{Digesting, ImageFile, READ_SIZE, accept, digest_of, inspect};
use super::space::Budget;
use super::space_error::Need;
use super::sparse::{self, CopyError};
use super::wrapping::{Unwrapped, WrappingError};
use super::{Format, ImageError, Progress, gpt, size};

/// Raw images are padded with zeros to a multiple of so many bytes, the largest sector of a disk.
const PAD: u64 = 4096;
/// The smallest disk, in bytes.
const SECTOR: u64 = 512;
const DISK_IN_TAR: &[u8] = b"disk.img";

/// The outcome of unpacking a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// The digest of the source.
    pub(crate) sha256: Sha256,
    /// Bytes of the raw image.
    pub(crate) size: u64,
}

/// Unpacks `source` into the empty file `to`, which is on the file system of `dir`.
pub(crate) fn unpack(
    source: &ImageFile,
    to: &File,
    dir: &camino::Utf8Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Unpacked, ImageError> {
    let cache_error =
        |source| ImageError::Cache { action: "unpack an image in", path: dir.to_owned(), source };
    let budget = |need| Budget::new(&source.path, dir, need).map_err(cache_error);
    let sha256 = match source.format {
        Format::Raw => {
            check_raw(source, &source.file)?;
            copy_raw(source, to, &budget(Need::About(allocated(source)?))?, progress)?
        }
        Format::Qcow2 => {
            let found = qcow2::survey(&source.file).map_err(|fault| fault_error(source, fault))?;
            convert(source, to, found.virtual_size, &budget(Need::About(found.data))?, progress)?
        }
        format => {
            let known = size::unpacked(&source.file, source.identity.size, &source.head, format);
            // Data that compresses no further is about the least that comes out.
            let need = known.map_or(Need::AtLeast(source.identity.size), Need::AtMost);
            decode(source, to, &budget(need)?, progress)?
        }
    };
    let length = check_raw(source, to)?;
    let read_error = |source| ImageError::Cache { action: "read an image in", path: dir.to_owned(), source };
    if length % PAD == 0 || gpt::find(to).map_err(read_error)?.is_some() {
        return Ok(Unpacked { sha256, size: length });
    }
    let size = length.next_multiple_of(PAD);
    to.set_len(size).map_err(cache_error)?;
    Ok(Unpacked { sha256, size })
}

/// Checks that a raw file, which may be the source itself, can be a whole disk; returns its length.
fn check_raw(source: &ImageFile, raw: &File) -> Result<u64, ImageError> {
    let image = || source.path.clone();
    let read_error = |source| ImageError::Read { image: image(), source };
    let length = raw.metadata().map_err(read_error)?.len();
    if length == 0 {
        return Err(ImageError::Empty { image: image() });
    }
    let (_, content) = inspect(raw, length).map_err(read_error)?;
    accept_raw(source, content)?;
    if length < SECTOR {
        let evidence = format!("a disk of {length} bytes is shorter than one sector");
        return Err(ImageError::Truncated { image: image(), evidence });
    }
    let Some(gpt) = gpt::find(raw).map_err(read_error)? else { return Ok(length) };
    match gpt.minimum_size {
        Some(_) if gpt.sector != SECTOR => Err(ImageError::SectorSize { image: image(), sector: gpt.sector }),
        Some(minimum) if minimum > length => Err(ImageError::Truncated {
            image: image(),
            evidence: format!(
                "its partition table is that of a disk of {minimum} bytes, but it has {length}"
            ),
        }),
        _ => Ok(length),
    }
}

/// Accepts what can only be a raw disk inside of a wrapping.
fn accept_raw(source: &ImageFile, content: Content) -> Result<(), ImageError> {
    let place = if source.format == Format::Raw { "it " } else { "what is inside " };
    let looks_like = match accept(&source.path, content, place)? {
        Format::Raw => return Ok(()),
        Format::Qcow2 => "a qcow2 disk",
        Format::Zstd => "zstd data once more",
        Format::Gzip => "gzip data once more",
        Format::Xz => "xz data once more",
        Format::Lzma => "lzma data once more",
    };
    let advice = "take off the outer wrapping";
    Err(ImageError::WrongFormat { image: source.path.clone(), place, looks_like, advice })
}

/// Bytes of disk that a raw source takes.
fn allocated(source: &ImageFile) -> Result<u64, ImageError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = source
        .file
        .metadata()
        .map_err(|error| ImageError::Read { image: source.path.clone(), source: error })?;
    Ok(metadata.len().min(metadata.blocks() * 512))
}

fn copy_raw(
    source: &ImageFile,
    to: &File,
    budget: &Budget,
    progress: &mut dyn FnMut(Progress),
) -> Result<Sha256, ImageError> {
    let total_read = source.identity.size;
    // On btrfs and XFS the image shares its blocks with the source. The digest is then that of the
    // copy, which nobody else can write to. copy_file_range would gain nothing: the digest must see
    // every byte anyway.
    if rustix::fs::ioctl_ficlone(to, &source.file).is_ok() {
        return digest_of(to, &mut |read| {
            progress(Progress::Unpacking { read, total_read, written: read });
        })
        .map_err(|error| ImageError::Read { image: source.path.clone(), source: error });
    }
    // A source that is all holes takes no blocks, so what it takes is what it will take here, at most.
    budget.check_need()?;
    read_once(source, progress, |reader, tick| {
        sparse::copy(reader, to, budget, tick).map(drop).map_err(|error| copy_error(source, error))
    })
}

fn decode(
    source: &ImageFile,
    to: &File,
    budget: &Budget,
    progress: &mut dyn FnMut(Progress),
) -> Result<Sha256, ImageError> {
    budget.check_need()?;
    read_once(source, progress, |reader, tick| {
        let read_error = |error| read_error(source, error);
        let mut decoder = Unwrapped::new(source.format, reader);
        let mut head = vec![0; HEAD];
        let length = sparse::fill(&mut decoder, &mut head).map_err(read_error)?;
        head.truncate(length);
        let content = tell(&head, &[]);
        let mut whole = io::Cursor::new(head).chain(decoder);
        if content == Content::Tar {
            return take_from_tar(source, &mut whole, to, budget, tick);
        }
        accept_raw(source, content)?;
        sparse::copy(&mut whole, to, budget, tick).map(drop).map_err(|error| copy_error(source, error))
    })
}

/// Runs `body` on a reader that digests, and reads what the body left, so that the digest is whole.
fn read_once(
    source: &ImageFile,
    progress: &mut dyn FnMut(Progress),
    body: impl FnOnce(&mut BufReader<Digesting<'_>>, &mut dyn FnMut(u64)) -> Result<(), ImageError>,
) -> Result<Sha256, ImageError> {
    let position = Cell::new(0);
    let mut reader = BufReader::with_capacity(READ_SIZE, Digesting::new(&source.file, &position));
    let total_read = source.identity.size;
    body(&mut reader, &mut |written| {
        progress(Progress::Unpacking { read: position.get(), total_read, written });
    })?;
    io::copy(&mut reader, &mut io::sink()).map_err(|error| read_error(source, error))?;
    Ok(reader.into_inner().finish())
}

fn take_from_tar(
    source: &ImageFile,
    from: &mut dyn io::Read,
    to: &File,
    budget: &Budget,
    tick: &mut dyn FnMut(u64),
) -> Result<(), ImageError> {
    let broken = |error| broken_tar_error(source, error);
    let tar_error = |what: &str| ImageError::Tar { image: source.path.clone(), what: what.to_owned() };
    let mut archive = tar::Archive::new(from);
    let mut is_found = false;
    let mut others = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes().into_owned();
        if path.strip_prefix(b"./").unwrap_or(&path) != DISK_IN_TAR {
            others.push(String::from_utf8_lossy(&path).into_owned());
            continue;
        }
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()) {
            return Err(tar_error("a `disk.img` that is no regular file"));
        }
        if std::mem::replace(&mut is_found, true) {
            return Err(tar_error("more than one `disk.img`"));
        }
        let size = entry.size();
        let copied = sparse::copy(&mut entry, to, budget, tick).map_err(|error| match error {
            CopyError::Read(error) => broken(error),
            CopyError::Write(error) => error,
        })?;
        if copied != size {
            let evidence = format!("the tar inside ends after {copied} of {size} bytes of `disk.img`");
            return Err(ImageError::Truncated { image: source.path.clone(), evidence });
        }
    }
    if !is_found {
        others.truncate(5);
        return Err(tar_error(&format!("no `disk.img`, but {}", others.join(", "))));
    }
    // The checksum of the wrapping comes at its very end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| read_error(source, error))?;
    Ok(())
}

fn convert(
    source: &ImageFile,
    to: &File,
    virtual_size: u64,
    budget: &Budget,
    progress: &mut dyn FnMut(Progress),
) -> Result<Sha256, ImageError> {
    budget.check_need()?;
    let sha256 = source.digest(progress)?;
    let total_read = source.identity.size;
    progress(Progress::Unpacking { read: 0, total_read, written: 0 });
    let write_error = |error| budget.write_error(0, virtual_size, error);
    to.set_len(virtual_size).map_err(write_error)?;
    // Both files are handed over as descriptors. So the file that was looked at is the one that is
    // converted, a name like `nbd:host` means nothing, and the result needs no name. /proc/self/fd of
    // *this* process would be closed to a child when we hold capabilities that it does not.
    let args = [
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "-S",
        "64k",
        "-n",
        "--target-is-zero",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
    ];
    let stdin = Stdio::from(source.file.try_clone().map_err(|error| read_error(source, error))?);
    let stdout = Stdio::from(to.try_clone().map_err(write_error)?);
    process::run_between("qemu-img", "qemu-utils", args, stdin, stdout).map_err(|error| match &error {
        RunError::Failed { stderr, .. } if stderr.contains("No space left") => budget.exhausted(0).into(),
        RunError::Failed { .. } => ImageError::Convert { image: source.path.clone(), source: error },
        _ => ImageError::Program(error),
    })?;
    progress(Progress::Unpacking { read: total_read, total_read, written: virtual_size });
    Ok(sha256)
}

fn copy_error(source: &ImageFile, error: CopyError) -> ImageError {
    match error {
        CopyError::Read(error) => read_error(source, error),
        CopyError::Write(error) => error,
    }
}

/// Sorts what a decoder reports: the file cannot be read, ends too early, goes on too long, or is nonsense.
fn read_error(source: &ImageFile, error: io::Error) -> ImageError {
    let (image, format) = (source.path.clone(), source.format);
    match WrappingError::of(&error) {
        Some(WrappingError::Cut) => {
            let evidence =
                format!("its {format} data ends in the middle, after {} bytes", source.identity.size);
            ImageError::Truncated { image, evidence }
        }
        Some(WrappingError::Trailing) => ImageError::Trailing { image, format },
        Some(WrappingError::Unsupported(_)) => {
            ImageError::UnsupportedWrapping { image, format, source: error }
        }
        Some(WrappingError::Damaged(_)) => ImageError::Corrupt { image, format, source: error },
        None => ImageError::Read { image, source: error },
    }
}

/// Sorts what the reader of a tar reports: it may have got that from the decoder.
fn broken_tar_error(source: &ImageFile, error: io::Error) -> ImageError {
    let is_tars = WrappingError::of(&error).is_none() && !is_of_system(&error);
    if is_tars {
        return ImageError::BrokenTar { image: source.path.clone(), source: error };
    }
    read_error(source, error)
}

/// Whether the operating system reported it, maybe to a reader below.
fn is_of_system(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.source());
    let below = inner.and_then(|inner| inner.downcast_ref::<io::Error>());
    error.raw_os_error().is_some() || below.is_some_and(is_of_system)
}

fn fault_error(source: &ImageFile, fault: FeatureFault) -> ImageError {
    let image = source.path.clone();
    match fault {
        FeatureFault::Read(source) => ImageError::Read { image, source },
        FeatureFault::Encrypted(method) => ImageError::Encrypted { image, method },
        FeatureFault::NamesAnotherFile(what) => ImageError::NamesAnotherFile { image, what },
        FeatureFault::Unsupported(what) => ImageError::Unsupported { image, what },
        FeatureFault::Truncated(evidence) => ImageError::Truncated { image, evidence },
        FeatureFault::Inconsistent(evidence) => ImageError::Inconsistent { image, evidence },
    }
}
