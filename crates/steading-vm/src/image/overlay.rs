//! Overlays: what one VM writes, on top of an image that nobody writes to.
//!
//! An empty qcow2 file is a header and two small tables. Writing them here instead of by `qemu-img`
//! spares a process per disk: the disks of eight VMs are ready in a few milliseconds. The layout is that
//! of QEMU's `docs/interop/qcow2.txt`, version 3:
//!
//! | cluster | what |
//! | --- | --- |
//! | 0 | header |
//! | 1 | refcount table, one entry |
//! | 2 | refcount block: one reference for each of these clusters |
//! | 3… | L1 table, all zeros: nothing is allocated, reads go to the backing file |
//!
//! The header names no backing file. The one that starts QEMU gives the base explicitly (`-blockdev`, key
//! `backing`), as a descriptor, so no path is left in a file that a guest's disk depends on.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use camino::Utf8Path;

use super::ImageError;
use super::qcow2::{MAGIC, MAX_L1_BYTES};
use crate::unlinked;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of disk that one L2 table, of one cluster, maps.
const COVERED_BY_L2: u64 = CLUSTER / 8 * CLUSTER;
/// Bytes of disk that the largest L1 table maps: 2 PiB.
const MAX_SIZE: u64 = MAX_L1_BYTES / 8 * COVERED_BY_L2;
const SECTOR: u64 = 512;
/// 16 bits a reference count.
const REFCOUNT_ORDER: u32 = 4;
/// The header up to and with the compression type, padded to a multiple of eight.
const HEADER_LENGTH: u32 = 112;

/// Makes an empty qcow2 file for a disk of `size` bytes, rounded up to 512, without a backing file.
///
/// The file has no name: it is gone when the last process that holds it ends. It takes a few kilobytes
/// of the file system of `scratch` until something is written to the disk.
pub fn empty_overlay(scratch: &Utf8Path, size: u64) -> Result<File, ImageError> {
    if size > MAX_SIZE {
        return Err(ImageError::OverlayTooLarge { asked: size, limit: MAX_SIZE });
    }
    let size = size.next_multiple_of(SECTOR);
    let error = |source| ImageError::Overlay { scratch: scratch.to_owned(), source };
    let file = unlinked::create(scratch).map_err(error)?;
    write(&file, size).map_err(error)?;
    Ok(file)
}

/// Makes an empty qcow2 file for what will be written to the disk whose layers up to now end with
/// `below`; see [`empty_overlay`].
pub fn overlay_above(below: &OwnedFd, scratch: &Utf8Path) -> Result<File, ImageError> {
    let error = |source| ImageError::Overlay { scratch: scratch.to_owned(), source };
    let below = below.try_clone().map(File::from).map_err(error)?;
    let size = virtual_size(&below).map_err(error)?;
    empty_overlay(scratch, size)
}

/// The size of the disk that a qcow2 file of our own is a layer of.
fn virtual_size(layer: &File) -> io::Result<u64> {
    let mut header = [0; 32];
    layer.read_exact_at(&mut header, 0)?;
    let (magic, size) = (&header[..4], &header[24..]);
    if magic != MAGIC.to_be_bytes() {
        return Err(io::Error::other("a layer below is no qcow2 file"));
    }
    Ok(u64::from_be_bytes(size.try_into().expect("eight bytes")))
}

fn write(file: &File, size: u64) -> io::Result<()> {
    let l1_entries = size.div_ceil(COVERED_BY_L2);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
    let clusters = 3 + l1_clusters;

    // What is not put stays zero: no backing file, no encryption, no snapshots, no features (so no lazy
    // refcounts), compression type deflate, and behind the header the end of its extensions.
    let mut header = [0; HEADER_LENGTH as usize + 8];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_be_bytes());
    put(4, &3_u32.to_be_bytes()); // version
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &size.to_be_bytes());
    put(36, &u32::try_from(l1_entries).map_err(io::Error::other)?.to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes()); // L1 table
    put(48, &CLUSTER.to_be_bytes()); // refcount table
    put(56, &1_u32.to_be_bytes()); // its clusters
    put(96, &REFCOUNT_ORDER.to_be_bytes());
    put(100, &HEADER_LENGTH.to_be_bytes());
    let references = vec![1_u16.to_be_bytes(); usize::try_from(clusters).map_err(io::Error::other)?].concat();

    file.write_all_at(&header, 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    file.write_all_at(&references, 2 * CLUSTER)?;
    file.set_len(clusters * CLUSTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::qcow2::{Survey, survey};
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    fn temp_dir() -> &'static Utf8Path {
        Utf8Path::new("/tmp")
    }

    #[test]
    fn it_takes_a_few_kilobytes_and_has_no_name() {
        let file = empty_overlay(temp_dir(), 10 << 30).expect("overlay");
        let stat = file.metadata().expect("stat");
        assert!(stat.blocks() * 512 <= 32 << 10, "{} blocks", stat.blocks());
        assert_eq!(stat.nlink(), 0);
    }

    #[test]
    fn the_largest_disk_that_is_planned_is_the_largest_that_is_made() {
        assert_eq!(steading_plan::DISK_MIB_MAX << 20, MAX_SIZE);
    }

    #[test]
    fn a_disk_beyond_the_largest_table_is_refused() {
        assert!(empty_overlay(temp_dir(), MAX_SIZE).is_ok());
        let error = empty_overlay(temp_dir(), MAX_SIZE + 1).expect_err("too large");
        assert!(matches!(error, ImageError::OverlayTooLarge { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn our_own_reader_finds_an_empty_disk_of_the_size_asked_for(size in 1_u64..=MAX_SIZE) {
            let file = empty_overlay(temp_dir(), size).expect("overlay");
            let found = survey(&file).expect("sound");
            prop_assert_eq!(found, Survey { virtual_size: size.next_multiple_of(512), data: 0 });
        }
    }
}
