//! What can be wrong with an image, or with the place where it is unpacked.

use std::io;

use camino::Utf8PathBuf;
use steading_plan::Sha256;
use steading_sys::process::RunError;
use thiserror::Error;

use super::Format;
use super::space_error::SpaceError;

/// An image that cannot be used, or a cache that cannot hold it.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The source cannot be opened.
    #[error("cannot open image {image}\nhint: check that the path exists and that you may read it")]
    Open {
        /// The source.
        image: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The source cannot be read to its end.
    #[error("cannot read image {image}")]
    Read {
        /// The source.
        image: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A directory, a device or a pipe.
    #[error(
        "image {image} is not a regular file\nhint: name the image file itself; copy a device to a file first"
    )]
    NotAFile {
        /// The source.
        image: Utf8PathBuf,
    },
    /// Nothing in it.
    #[error(
        "image {image} is empty\nhint: a download or a build step probably failed; fetch or build it again"
    )]
    Empty {
        /// The source.
        image: Utf8PathBuf,
    },
    /// Something else than an image.
    #[error(
        "image {image} has the wrong format: {place}looks like {looks_like}\n\
         hint: {advice}; accepted are raw, qcow2, and either raw or a tar with `disk.img` in zstd, gzip, xz or lzma"
    )]
    WrongFormat {
        /// The source.
        image: Utf8PathBuf,
        /// Empty, or where inside the file, with a space behind it.
        place: &'static str,
        /// What it is taken for.
        looks_like: &'static str,
        /// What to do with such a file.
        advice: &'static str,
    },
    /// A disk that needs a key.
    #[error(
        "image {image} is encrypted ({method})\n\
         hint: images are opened without a key; decrypt it first (`qemu-img convert` or `cryptsetup`)"
    )]
    Encrypted {
        /// The source.
        image: Utf8PathBuf,
        /// How it is encrypted.
        method: &'static str,
    },
    /// A qcow2 file that names another file of this host.
    #[error(
        "image {image} is not complete in itself: it names {what}\n\
         hint: another file of this host is not read on an image's word; make it whole with \
         `qemu-img convert -O qcow2 IN OUT`"
    )]
    NamesAnotherFile {
        /// The source.
        image: Utf8PathBuf,
        /// A backing file or an external data file, with its name.
        what: String,
    },
    /// A qcow2 file with a version or a feature that is not known here.
    #[error(
        "image {image} uses {what}, which is not supported\nhint: rewrite it with `qemu-img convert -O qcow2 IN OUT`"
    )]
    Unsupported {
        /// The source.
        image: Utf8PathBuf,
        /// The version or feature.
        what: String,
    },
    /// It ends too early.
    #[error(
        "image {image} is truncated: {evidence}\nhint: a download or a copy was probably cut short; fetch it again"
    )]
    Truncated {
        /// The source.
        image: Utf8PathBuf,
        /// How that is known.
        evidence: String,
    },
    /// Its wrapping cannot be decoded.
    #[error(
        "image {image} is damaged: its {format} data cannot be decoded\nhint: fetch it again and compare its SHA-256"
    )]
    Corrupt {
        /// The source.
        image: Utf8PathBuf,
        /// The wrapping.
        format: Format,
        /// The decoder's reason.
        source: io::Error,
    },
    /// Bytes behind the end of its wrapping.
    #[error(
        "image {image} has bytes after the end of its {format} data that are neither {format} data nor zeros\n\
         hint: fetch it again and compare its SHA-256; something may have been appended to it"
    )]
    Trailing {
        /// The source.
        image: Utf8PathBuf,
        /// The wrapping.
        format: Format,
    },
    /// Its wrapping has a feature that is not known here.
    #[error(
        "image {image} uses a feature of {format} that is not supported\nhint: unpack it, and compress it again with zstd"
    )]
    UnsupportedWrapping {
        /// The source.
        image: Utf8PathBuf,
        /// The wrapping.
        format: Format,
        /// The decoder's reason.
        source: io::Error,
    },
    /// Partitioned for sectors that VMs' disks do not have.
    #[error(
        "image {image} is partitioned for sectors of {sector} bytes: its GPT header is at byte {sector}; VMs get disks \
         with sectors of 512 bytes, on which no such partition is found\n\
         hint: build it for sectors of 512 bytes, such as with `systemd-repart --sector-size=512` or mkosi's `SectorSize=512`"
    )]
    SectorSize {
        /// The source.
        image: Utf8PathBuf,
        /// Bytes of a sector.
        sector: u64,
    },
    /// Larger than a file can be where it is unpacked.
    #[error(
        "image {image} is a disk of {size}, and a file in {dir} ({file_system}) cannot be that large\n\
         hint: name a directory on a file system for larger files, such as XFS, by STEADING_CACHE_DIR, or make a \
         smaller disk"
    )]
    TooLarge {
        /// The source.
        image: Utf8PathBuf,
        /// How large, for people.
        size: String,
        /// Where it is unpacked.
        dir: Utf8PathBuf,
        /// The file system's mount point and type, where they can be told.
        file_system: String,
    },
    /// A qcow2 file with metadata that makes no sense.
    #[error("image {image} is damaged: {evidence}\nhint: fetch it again; `qemu-img check` shows more")]
    Inconsistent {
        /// The source.
        image: Utf8PathBuf,
        /// What makes no sense.
        evidence: String,
    },
    /// A tar without one `disk.img`.
    #[error(
        "the tar in image {image} holds {what}\nhint: it must hold exactly one regular file `disk.img` at its top"
    )]
    Tar {
        /// The source.
        image: Utf8PathBuf,
        /// What it holds instead.
        what: String,
    },
    /// A tar that cannot be read, in a wrapping that can.
    #[error(
        "the tar in image {image} is damaged or cut short\nhint: pack it again, or fetch it again and compare its SHA-256"
    )]
    BrokenTar {
        /// The source.
        image: Utf8PathBuf,
        /// What the reader of the tar says.
        source: io::Error,
    },
    /// Another file than the one that was declared.
    #[error(
        "image {image} is not the one declared: its SHA-256 is {actual}, declared is {expected}\n\
         hint: if the image was updated on purpose, declare the new digest; else fetch it again"
    )]
    WrongHash {
        /// The source.
        image: Utf8PathBuf,
        /// The digest declared.
        expected: Sha256,
        /// The digest found.
        actual: Sha256,
    },
    /// Written to while it was read.
    #[error("image {image} changed while it was read\nhint: let the download or the build end first")]
    Changed {
        /// The source.
        image: Utf8PathBuf,
    },
    /// `qemu-img` failed.
    #[error(
        "cannot convert image {image} from qcow2 to raw\n\
         hint: no VM may be using it; `qemu-img check` tells whether it is sound"
    )]
    Convert {
        /// The source.
        image: Utf8PathBuf,
        /// How it failed.
        source: RunError,
    },
    /// `qemu-img` cannot be run.
    #[error(transparent)]
    Program(RunError),
    /// No room.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The cache cannot be used.
    #[error(
        "cannot {action} {path}\nhint: the image cache must be a directory that you may write to; \
         STEADING_CACHE_DIR names another one"
    )]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The cache is somebody else's.
    #[error(
        "the image cache {path} {what}\nhint: name a directory of your own by STEADING_CACHE_DIR, or let root make \
         a shared one: install -d -m 1777 /var/cache/steading"
    )]
    Untrusted {
        /// The directory.
        path: Utf8PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An entry of another user is damaged and cannot be replaced.
    #[error(
        "the cached image {path} is damaged ({evidence}) and belongs to another user (uid {owner})\n\
         hint: let its owner or root remove it, or name another directory by STEADING_CACHE_DIR"
    )]
    DamagedEntry {
        /// The entry.
        path: Utf8PathBuf,
        /// What is wrong with it.
        evidence: String,
        /// Whose it is.
        owner: u32,
    },
    /// A prepared image is not in the cache any more.
    #[error("the cached image {path} is gone or was replaced\nhint: prepare the image again")]
    Gone {
        /// The entry.
        path: Utf8PathBuf,
    },
    /// An overlay smaller than its base.
    #[error(
        "a disk of {asked} bytes cannot hold its image of {base} bytes\nhint: ask for at least the image's size"
    )]
    OverlayTooSmall {
        /// Bytes asked for.
        asked: u64,
        /// Bytes of the image.
        base: u64,
    },
    /// An overlay larger than qcow2 can address here.
    #[error("a disk of {asked} bytes is too large\nhint: the limit is {limit} bytes")]
    OverlayTooLarge {
        /// Bytes asked for.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// An overlay cannot be written.
    #[error(
        "cannot make an overlay in {scratch}\nhint: check that the directory exists, is writable and has room"
    )]
    Overlay {
        /// The scratch directory.
        scratch: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}
