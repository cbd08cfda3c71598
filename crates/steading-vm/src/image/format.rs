//! Telling image formats apart, by content alone.
//!
//! Names lie: `disk.img` may be raw, qcow2 or gzip, depending on who published it. A guest that is
//! given the wrong bytes does not say so; it just does not boot. So what cannot be a disk is refused
//! here, by the name of what it looks like.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A wrapping in which an image is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's own format, versions 2 and 3.
    Qcow2,
    /// Zstandard (RFC 8878) around a raw image or a tar.
    Zstd,
    /// gzip (RFC 1952) around a raw image or a tar.
    Gzip,
    /// xz around a raw image or a tar.
    Xz,
    /// LZMA, the older format of xz, around a raw image or a tar.
    Lzma,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
        })
    }
}

/// How many bytes of the start of a file [`tell`] wants to see.
pub(crate) const HEAD: usize = 4096;
/// How many bytes of its end.
pub(crate) const TAIL: usize = 512;

/// What the start and the end of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// An accepted format. Raw is whatever is nothing else.
    Image(Format),
    /// A POSIX or GNU tar.
    Tar,
    /// Encrypted as a whole, by this method.
    Encrypted(&'static str),
    /// Something that cannot be used.
    Foreign {
        /// What, with its article.
        looks_like: &'static str,
        /// What to do with it.
        advice: &'static str,
    },
}

const CONVERT: &str = "convert it with `qemu-img convert -O qcow2 IN OUT`";
const UNPACK: &str = "unpack it, and compress the disk inside with zstd or gzip";
const NO_DISK: &str = "this is no disk image; check the path";
const FETCH: &str = "open the address in a browser, or run the download again and look at its result";

/// Signatures at a fixed offset, of what is refused.
const FOREIGN: &[(usize, &[u8], &str, &str)] = &[
    (0, b"KDMV", "a VMware disk (vmdk)", CONVERT),
    (0, b"COWD", "a VMware disk (vmdk)", CONVERT),
    (0, b"# Disk DescriptorFile", "the descriptor of a VMware disk (vmdk)", CONVERT),
    // The 64 bytes before it are a text that each tool chooses for itself.
    (64, b"\x7f\x10\xda\xbe", "a VirtualBox disk (vdi)", CONVERT),
    (0, b"vhdxfile", "a Hyper-V disk (vhdx)", CONVERT),
    (0, b"conectix", "a Virtual PC disk (vhd)", CONVERT),
    (0, b"QED\0", "a QED disk", CONVERT),
    (0, b"WithoutFreeSpace", "a Parallels disk", CONVERT),
    (0, b"WithouFreSpacExt", "a Parallels disk", CONVERT),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image", "convert it with `simg2img IN OUT`"),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (0, b"LZIP", "lzip data", UNPACK),
    (0, b"\x04\x22\x4d\x18", "lz4 data", UNPACK),
    (0, b"\x02\x21\x4c\x18", "lz4 data", UNPACK),
    (0, b"\x89LZO\0\r\n\x1a\n", "lzop data", UNPACK),
    (0, b"\x1f\x9d", "data of `compress`", UNPACK),
    (0, b"MSWIM\0\0\0", "a Windows image (wim)", UNPACK),
    (0x202, b"HdrS", "a Linux kernel", "a kernel is given as `boot`, not as a disk"),
    (0, b"!<arch>\n", "an ar archive or Debian package", NO_DISK),
    (0, b"070701", "a cpio archive, such as an initrd", "an initrd goes with a kernel, not as a disk"),
    (0, b"\x7fELF", "an ELF program", NO_DISK),
];

/// Tells what a file is by its first [`HEAD`] and its last [`TAIL`] bytes (fewer if it is shorter).
pub(crate) fn tell(head: &[u8], tail: &[u8]) -> Content {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let foreign = |looks_like, advice| Content::Foreign { looks_like, advice };

    if at(0, b"QFI\xfb") {
        return Content::Image(Format::Qcow2);
    }
    let wrapped = [Format::Zstd, Format::Gzip, Format::Xz, Format::Lzma];
    if let Some(format) = wrapped.into_iter().find(|format| begins(*format, head)) {
        return Content::Image(format);
    }
    if at(0, b"LUKS\xba\xbe") {
        return Content::Encrypted("LUKS");
    }
    // "BZh", the level, and the first six digits of pi.
    if at(0, b"BZh") && at(4, b"\x31\x41\x59\x26\x53\x59") {
        return foreign("bzip2 data", UNPACK);
    }
    for (offset, magic, looks_like, advice) in FOREIGN {
        if at(*offset, magic) {
            return foreign(looks_like, advice);
        }
    }
    if is_tar(head) {
        return Content::Tar;
    }
    if at(0, b"version https://git-lfs.github.com/spec/") {
        return foreign("a git-lfs pointer", "run `git lfs pull` to fetch the file it stands for");
    }
    if is_text(head) {
        return if is_markup(head) { foreign("a web page", FETCH) } else { foreign("text", FETCH) };
    }
    // A fixed VHD is a raw disk with one more sector behind it. The checksum field of a footer is not
    // compared: its cookie at the start of the last sector is nothing that a disk has by chance.
    if tail.len() == TAIL && tail.starts_with(b"conectix") {
        return foreign("a Virtual PC disk (vhd, fixed size)", CONVERT);
    }
    Content::Image(Format::Raw)
}

/// Whether compressed data of this format begins like this.
pub(super) fn begins(format: Format, head: &[u8]) -> bool {
    match format {
        Format::Zstd => head.starts_with(b"\x28\xb5\x2f\xfd") || is_skippable_zstd_frame(head),
        Format::Gzip => head.starts_with(b"\x1f\x8b\x08"),
        Format::Xz => head.starts_with(b"\xfd7zXZ\0"),
        Format::Lzma => is_lzma(head),
        Format::Raw | Format::Qcow2 => false,
    }
}

/// Whether these are the first bytes of compressed data that ends inside of its signature.
pub(super) fn begins_cut(format: Format, head: &[u8]) -> bool {
    let signature: &[u8] = match format {
        Format::Zstd => b"\x28\xb5\x2f\xfd",
        Format::Gzip => b"\x1f\x8b\x08",
        Format::Xz => b"\xfd7zXZ\0",
        Format::Lzma => b"\x5d\0\0",
        Format::Raw | Format::Qcow2 => return false,
    };
    head.len() < signature.len() && signature.starts_with(head)
}

/// The format has no signature: properties, the size of the dictionary, and the size of the data or all ones
/// (`doc/lzma-file-format.txt` of XZ Utils). Taken for it are the properties that every tool writes, with sizes that
/// `xz` accepts, too; and never a boot sector.
fn is_lzma(head: &[u8]) -> bool {
    const PROPERTIES: u8 = 0x5d;
    const DICTIONARY_MIN: u32 = 4096;
    const SIZE_MAX: u64 = 1 << 38;
    let Some((&[properties, d0, d1, d2, d3, ref size @ ..], _)) = head.split_first_chunk::<13>() else {
        return false;
    };
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes(*size);
    let rest = dictionary & dictionary.wrapping_sub(1);
    // 2^n, or half as much again.
    let is_round = rest == 0 || dictionary - rest == rest / 2;
    let is_boot_sector = head.get(510..512) == Some(&[0x55, 0xaa]);
    properties == PROPERTIES
        && dictionary >= DICTIONARY_MIN
        && is_round
        && (size == u64::MAX || size < SIZE_MAX)
        // The first byte of the range coder.
        && head.get(13).is_none_or(|byte| *byte == 0)
        && !is_boot_sector
}

/// A skippable frame, with which `pzstd` starts its files (RFC 8878, section 3.1.2).
fn is_skippable_zstd_frame(head: &[u8]) -> bool {
    head.len() >= 8 && (0x50..=0x5f).contains(&head[0]) && head[1..4] == [0x2a, 0x4d, 0x18]
}

/// A ustar or GNU header with a right checksum (POSIX pax, "ustar Interchange Format").
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    if &header[257..262] != b"ustar" {
        return false;
    }
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
        .sum();
    let field = String::from_utf8_lossy(&header[148..156]);
    u32::from_str_radix(field.trim_matches(['\0', ' ']), 8) == Ok(sum)
}

fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character cut in two by the end of the head is no objection.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c' | '\x1b'))
}

fn is_markup(head: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&head[..head.len().min(256)]).trim_start().to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}');
    ["<!doctype html", "<html", "<head", "<?xml", "<!--"].iter().any(|tag| start.starts_with(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(offset: usize, magic: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[offset..offset + magic.len()].copy_from_slice(magic);
        head
    }

    fn looks_like(head: &[u8]) -> &'static str {
        match tell(head, &[]) {
            Content::Foreign { looks_like, .. } => looks_like,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_foreign_signature_is_refused_by_its_own_name() {
        for (offset, magic, name, _) in FOREIGN {
            assert_eq!(looks_like(&head(*offset, magic)), *name);
        }
        assert_eq!(looks_like(&head(0, b"BZh91AY&SY")), "bzip2 data");
    }

    #[test]
    fn what_a_failed_download_leaves_is_told_by_its_kind() {
        assert_eq!(looks_like(b"\n<!DOCTYPE html><title>404</title>"), "a web page");
        assert_eq!(looks_like("<html>\u{e9}".as_bytes()), "a web page");
        assert_eq!(looks_like(b"404: Not Found"), "text");
        assert_eq!(
            looks_like(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "a git-lfs pointer"
        );
        // Cut inside of a two-byte character.
        let mut long = vec![b'a'; HEAD - 1];
        long.push(0xc3);
        assert_eq!(looks_like(&long), "text");
    }

    #[test]
    fn a_tar_header_counts_only_with_its_checksum() {
        let mut header = tar::Header::new_gnu();
        header.set_path("disk.img").expect("path");
        header.set_size(512);
        header.set_cksum();
        assert_eq!(tell(header.as_bytes(), &[]), Content::Tar);
        let mut broken = *header.as_bytes();
        broken[0] = b'D';
        assert_eq!(tell(&broken, &[]), Content::Image(Format::Raw));
    }

    #[test]
    fn lzma_data_is_told_from_a_disk_that_begins_alike() {
        let lzma = |dictionary: u32, size: u64| {
            [&[0x5d][..], &dictionary.to_le_bytes(), &size.to_le_bytes(), &[0; 600]].concat()
        };
        for (dictionary, size) in [(1 << 23, u64::MAX), (3 << 20, 1 << 30), (4096, 0)] {
            assert_eq!(tell(&lzma(dictionary, size), &[]), Content::Image(Format::Lzma), "{dictionary}");
        }
        for (dictionary, size) in [(0, u64::MAX), (5 << 20, 1), (1 << 23, 1 << 40)] {
            assert_eq!(tell(&lzma(dictionary, size), &[]), Content::Image(Format::Raw), "{dictionary}");
        }
        let mut boot_sector = lzma(1 << 23, u64::MAX);
        boot_sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(tell(&boot_sector, &[]), Content::Image(Format::Raw));
    }

    #[test]
    fn a_vhd_footer_is_seen_only_at_the_very_end() {
        let footer = &head(0, b"conectix")[..TAIL];
        assert!(matches!(tell(&[0; HEAD], footer), Content::Foreign { .. }));
        assert_eq!(tell(&[0; HEAD], &footer[8..]), Content::Image(Format::Raw));
    }

    proptest! {
        #[test]
        fn a_boot_sector_with_any_code_in_it_is_raw(mut head in prop::collection::vec(any::<u8>(), HEAD)) {
            // A jump, as every boot sector starts, and the signature at its end.
            head[..3].copy_from_slice(&[0xeb, 0x63, 0x90]);
            head[510..512].copy_from_slice(&[0x55, 0xaa]);
            head[64] = 0;
            prop_assert_eq!(tell(&head, &[]), Content::Image(Format::Raw));
        }

        #[test]
        fn no_content_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..600), tail in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = tell(&head, &tail);
        }
    }
}
