//! How large compressed data becomes, where its own frames tell.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Format;

const XZ_FOOTER: usize = 12;
const XZ_HEADER: u64 = 12;
/// An index larger than this is not worth reading for an estimate, in bytes.
const XZ_INDEX_MAX: u64 = 16 << 20;

/// The unpacked size in bytes, if the file says it reliably.
///
/// gzip does not: its trailer counts modulo 4 GiB (RFC 1952, section 2.3.1).
pub(crate) fn unpacked(file: &File, length: u64, head: &[u8], format: Format) -> Option<u64> {
    match format {
        Format::Zstd => zstd::zstd_safe::get_frame_content_size(head).ok().flatten(),
        Format::Xz => xz_index_total(file, length).ok().flatten(),
        Format::Lzma => lzma_size(head),
        Format::Raw | Format::Qcow2 | Format::Gzip => None,
    }
}

/// The size in the header of LZMA data, which may say that it is unknown.
fn lzma_size(head: &[u8]) -> Option<u64> {
    let size = head.get(5..13)?.try_into().ok().map(u64::from_le_bytes)?;
    (size != u64::MAX).then_some(size)
}

/// The sum over the index at the end of a file of one stream (the .xz file format 1.2.1, sections 2.1.2 and 4).
fn xz_index_total(file: &File, length: u64) -> io::Result<Option<u64>> {
    let Some(footer_at) = length.checked_sub(XZ_FOOTER as u64) else { return Ok(None) };
    let mut footer = [0; XZ_FOOTER];
    file.read_exact_at(&mut footer, footer_at)?;
    let backward = u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]]);
    let index_size = (u64::from(backward) + 1) * 4;
    let Some(index_at) = footer_at.checked_sub(index_size) else { return Ok(None) };
    if &footer[10..] != b"YZ" || index_size > XZ_INDEX_MAX {
        return Ok(None);
    }
    let mut index = vec![0; usize::try_from(index_size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut index, index_at)?;
    Ok(sum_index(&index).and_then(|(packed, unpacked)| {
        // Another stream in front of this one would make the sum too small.
        (XZ_HEADER.checked_add(packed) == Some(index_at)).then_some(unpacked)
    }))
}

/// Sums of the blocks' sizes, packed (each padded to four bytes) and unpacked.
fn sum_index(index: &[u8]) -> Option<(u64, u64)> {
    let (&0, mut rest) = index.split_first()? else { return None };
    let records = variable_length(&mut rest)?;
    let (mut packed, mut unpacked) = (0_u64, 0_u64);
    for _ in 0..records {
        packed = packed.checked_add(variable_length(&mut rest)?.checked_next_multiple_of(4)?)?;
        unpacked = unpacked.checked_add(variable_length(&mut rest)?)?;
    }
    Some((packed, unpacked))
}

/// A number of up to nine bytes, seven bits each (section 1.2).
fn variable_length(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for position in 0..9 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> File {
        let file = crate::unlinked::in_memory("size").expect("memfd");
        file.write_all_at(bytes, 0).expect("write");
        file
    }

    fn xz(data: &[u8]) -> Vec<u8> {
        let mut writer =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).expect("options");
        writer.write_all(data).expect("write");
        writer.finish().expect("finish")
    }

    #[test]
    fn two_xz_streams_are_not_taken_for_the_last_one() {
        let twice = [xz(&[1; 1000]), xz(&[2; 500])].concat();
        assert_eq!(unpacked(&file_of(&twice), twice.len() as u64, &[], Format::Xz), None);
    }

    proptest! {
        #[test]
        fn the_size_in_a_frame_is_the_size_of_what_was_packed(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            let packed = xz(&data);
            prop_assert_eq!(unpacked(&file_of(&packed), packed.len() as u64, &[], Format::Xz), Some(data.len() as u64));
            let packed = zstd::bulk::compress(&data, 1).expect("compress");
            prop_assert_eq!(unpacked(&file_of(&packed), packed.len() as u64, &packed, Format::Zstd), Some(data.len() as u64));
        }

        #[test]
        fn damaged_indexes_give_no_panic(mut data in prop::collection::vec(any::<u8>(), 12..200)) {
            let at = data.len() - 2;
            data[at..].copy_from_slice(b"YZ");
            let backward = at - 6;
            let size = [data[0] & 15, 0, 0, 0];
            data[backward..backward + 4].copy_from_slice(&size);
            let _ = unpacked(&file_of(&data), data.len() as u64, &data, Format::Xz);
        }
    }
}
