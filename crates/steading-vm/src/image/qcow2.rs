//! Reading the metadata of a qcow2 file before `qemu-img` sees it.
//!
//! `qemu-img` would follow the name of a backing file to any file of this host, and it takes what lies
//! behind the end of a truncated file for zeros. So the header and the cluster tables are looked at
//! first. The layout is that of QEMU's `docs/interop/qcow2.txt`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// `QFI\xfb`.
pub(crate) const MAGIC: u32 = 0x5146_49fb;
/// QEMU's limit for an L1 table (`QCOW_MAX_L1_SIZE` in `block/qcow2.h`), in bytes.
pub(crate) const MAX_L1_BYTES: u64 = 0x0200_0000;

const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
/// Dirty, corrupt, data file, compression type, extended L2.
const INCOMPATIBLE_KNOWN: u64 = 0x1f;

const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const FLAG_COMPRESSED: u64 = 1 << 62;
const FLAG_ZERO: u64 = 1;

/// What is wrong with a qcow2 file.
#[derive(Debug)]
pub(crate) enum FeatureFault {
    /// It cannot be read.
    Read(io::Error),
    /// It is encrypted by this method.
    Encrypted(&'static str),
    /// It names another file.
    NamesAnotherFile(String),
    /// It has an unknown version or feature.
    Unsupported(String),
    /// Something that it points to lies behind its end.
    Truncated(String),
    /// Its metadata makes no sense.
    Inconsistent(String),
}

/// What the metadata says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Bytes of the disk as the guest sees it.
    pub(crate) virtual_size: u64,
    /// Bytes of it that have data, at most.
    pub(crate) data: u64,
}

struct Header {
    cluster_bits: u32,
    virtual_size: u64,
    l1_entries: u64,
    l1_offset: u64,
    refcount_offset: u64,
    refcount_clusters: u64,
    incompatible: u64,
}

/// Reads header and cluster tables and refuses what must not be converted.
pub(crate) fn survey(file: &File) -> Result<Survey, FeatureFault> {
    let length = file.metadata().map_err(FeatureFault::Read)?.len();
    let header = read_header(file, length)?;
    let cluster = 1_u64 << header.cluster_bits;
    let inside = |what: &str, offset: u64, bytes: u64| match offset.checked_add(bytes) {
        Some(end) if end <= length => Ok(()),
        _ => Err(FeatureFault::Truncated(format!(
            "its {what} at byte {offset} ends behind the end of the file ({length} bytes)"
        ))),
    };
    inside("refcount table", header.refcount_offset, header.refcount_clusters * cluster)?;
    inside("L1 table", header.l1_offset, header.l1_entries * 8)?;

    let is_extended = header.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0;
    let entry_bytes = if is_extended { 16 } else { 8 };
    let covered_by_l2 = cluster / entry_bytes * cluster;
    if header.virtual_size.div_ceil(covered_by_l2) > header.l1_entries {
        return Err(FeatureFault::Inconsistent("its L1 table is too small for its disk".to_owned()));
    }

    let mut data = 0_u64;
    for (index, l1) in read_entries(file, header.l1_offset, header.l1_entries * 8)?.into_iter().enumerate() {
        let l2_offset = l1 & OFFSET_MASK;
        let mut guest = index as u64 * covered_by_l2;
        if l2_offset == 0 || guest >= header.virtual_size {
            continue;
        }
        inside("L2 table", l2_offset, cluster)?;
        let words = read_entries(file, l2_offset, cluster)?;
        let step = if is_extended { 2 } else { 1 };
        for entry in words.chunks_exact(step) {
            if guest >= header.virtual_size {
                break;
            }
            let visible = cluster.min(header.virtual_size - guest);
            guest += cluster;
            if entry[0] & FLAG_COMPRESSED != 0 {
                let (start, sectors) = compressed_extent(entry[0], header.cluster_bits);
                // Only the last sector may end behind the file: compressed data is packed by bytes.
                inside("compressed cluster", start, sectors * 512 + 1)?;
                data += cluster;
                continue;
            }
            let offset = entry[0] & OFFSET_MASK;
            let used = match entry.get(1) {
                // The lower half tells which of 32 subclusters are allocated.
                Some(bitmap) => u64::from(64 - (bitmap & 0xffff_ffff).leading_zeros()) * cluster / 32,
                None if entry[0] & FLAG_ZERO != 0 => 0,
                None => cluster,
            };
            if offset != 0 && used != 0 {
                inside("cluster", offset, used.min(visible))?;
                data += used;
            }
        }
    }
    Ok(Survey { virtual_size: header.virtual_size, data })
}

fn read_header(file: &File, length: u64) -> Result<Header, FeatureFault> {
    let mut bytes = [0; 104];
    let wanted = if length < 104 { 72 } else { 104 };
    file.read_exact_at(&mut bytes[..wanted], 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            FeatureFault::Truncated("it ends inside of its qcow2 header".to_owned())
        }
        _ => FeatureFault::Read(error),
    })?;
    let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));

    let version = u32_at(4);
    if u32_at(0) != MAGIC || !(2..=3).contains(&version) {
        return Err(FeatureFault::Unsupported(format!("qcow version {version}")));
    }
    if version == 3 && wanted < 104 {
        return Err(FeatureFault::Truncated("it ends inside of its qcow2 header".to_owned()));
    }
    let incompatible = if version == 3 { u64_at(72) } else { 0 };
    match u32_at(32) {
        0 => {}
        1 => return Err(FeatureFault::Encrypted("qcow2 with AES")),
        2 => return Err(FeatureFault::Encrypted("qcow2 with LUKS")),
        _ => return Err(FeatureFault::Encrypted("qcow2 with an unknown method")),
    }
    let backing = u64_at(8);
    if backing != 0 {
        let name = read_name(file, backing, u32_at(16));
        return Err(FeatureFault::NamesAnotherFile(format!("the backing file {name}")));
    }
    if incompatible & INCOMPATIBLE_DATA_FILE != 0 {
        return Err(FeatureFault::NamesAnotherFile("an external data file".to_owned()));
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(FeatureFault::Inconsistent("QEMU marked it as corrupt".to_owned()));
    }
    if incompatible & !INCOMPATIBLE_KNOWN != 0 {
        return Err(FeatureFault::Unsupported(format!(
            "the qcow2 features {:#x}",
            incompatible & !INCOMPATIBLE_KNOWN
        )));
    }
    let cluster_bits = u32_at(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(FeatureFault::Inconsistent(format!("its clusters would have 2^{cluster_bits} bytes")));
    }
    let header = Header {
        cluster_bits,
        virtual_size: u64_at(24),
        l1_entries: u32_at(36).into(),
        l1_offset: u64_at(40),
        refcount_offset: u64_at(48),
        refcount_clusters: u32_at(56).into(),
        incompatible,
    };
    if header.l1_entries * 8 > MAX_L1_BYTES {
        return Err(FeatureFault::Inconsistent(format!(
            "its L1 table would have {} entries",
            header.l1_entries
        )));
    }
    if header.virtual_size == 0 {
        return Err(FeatureFault::Inconsistent("its disk has no bytes".to_owned()));
    }
    Ok(header)
}

/// Where a compressed cluster starts, and its whole 512-byte sectors in addition to the first, partial one.
fn compressed_extent(entry: u64, cluster_bits: u32) -> (u64, u64) {
    let offset_bits = 62 - (cluster_bits - 8);
    let start = entry & ((1 << offset_bits) - 1);
    let sectors = (entry & !(3 << 62)) >> offset_bits;
    if sectors == 0 { (start, 0) } else { (start & !511, sectors) }
}

fn read_entries(file: &File, offset: u64, bytes: u64) -> Result<Vec<u64>, FeatureFault> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut buffer, offset).map_err(FeatureFault::Read)?;
    Ok(buffer.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}

/// A file name from the header, for a message; at most 1023 bytes by the specification.
fn read_name(file: &File, offset: u64, length: u32) -> String {
    let mut name = vec![0; length.min(1023) as usize];
    match file.read_exact_at(&mut name, offset) {
        Ok(()) => format!("{:?}", String::from_utf8_lossy(&name)),
        Err(_) => "(its name cannot be read)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_extent_of_a_compressed_cluster_follows_the_specification() {
        // 64 KiB clusters: 54 bits of offset, 8 bits of additional sectors.
        assert_eq!(compressed_extent(FLAG_COMPRESSED | 3 << 54 | 0x5_0123, 16), (0x5_0000, 3));
        assert_eq!(compressed_extent(FLAG_COMPRESSED | 0x5_0123, 16), (0x5_0123, 0));
    }

    proptest! {
        #[test]
        fn any_damage_of_the_metadata_is_answered_without_panic(
            at in 4_usize..200_000, value in any::<[u8; 8]>(), length in 0_u64..300_000,
        ) {
            let file = crate::image::empty_overlay(std::env::temp_dir().as_path().try_into().expect("UTF-8"), 1 << 30).expect("overlay");
            file.write_all_at(&value, at as u64).expect("write");
            file.set_len(length).expect("cut");
            let _ = survey(&file);
        }
    }
}
