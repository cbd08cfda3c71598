//! The one thing that is to be known about partition tables: where a GPT disk ends.
//!
//! A GPT disk has a backup header in its last sector (UEFI specification 2.10, section 5.3). It shows
//! a raw image that was cut short, which nothing else does; and it must stay in the last sector, so
//! such an image is never padded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Sector sizes for which a header is looked for, in bytes; it is in the second sector.
const SECTOR_SIZES: [u64; 2] = [512, 4096];
const SIGNATURE: &[u8] = b"EFI PART";

/// What a disk's primary GPT header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gpt {
    /// Bytes of a sector, which tell where the header is.
    pub(crate) sector: u64,
    /// Bytes that the disk must have for its backup header and its last usable sector to be in it;
    /// `None` if the header's checksum is wrong, as with a leftover of an older table.
    pub(crate) minimum_size: Option<u64>,
}

/// Looks for a primary GPT header.
pub(crate) fn find(disk: &File) -> io::Result<Option<Gpt>> {
    for sector in SECTOR_SIZES {
        let mut header = [0; 512];
        match disk.read_exact_at(&mut header, sector) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            result => result?,
        }
        if header.starts_with(SIGNATURE) {
            return Ok(Some(parse(&header, sector)));
        }
    }
    Ok(None)
}

fn parse(header: &[u8; 512], sector: u64) -> Gpt {
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let size = u32_at(12) as usize;
    let is_sound = (92..=512).contains(&size) && {
        let mut covered = header[..size].to_vec();
        covered[16..20].fill(0);
        let mut crc = flate2::Crc::new();
        crc.update(&covered);
        crc.sum() == u32_at(16)
    };
    let (backup, last_usable) = (u64_at(32), u64_at(48));
    let minimum_size = backup.max(last_usable).saturating_add(1).saturating_mul(sector);
    Gpt { sector, minimum_size: is_sound.then_some(minimum_size) }
}

/// A primary header for a disk of `size` bytes in 512-byte sectors, for tests.
#[cfg(test)]
pub(crate) fn header_for(size: u64) -> [u8; 512] {
    let last = size / 512 - 1;
    let mut header = [0; 512];
    header[..8].copy_from_slice(SIGNATURE);
    header[8..12].copy_from_slice(&[0, 0, 1, 0]);
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    header[24..32].copy_from_slice(&1_u64.to_le_bytes());
    header[32..40].copy_from_slice(&last.to_le_bytes());
    header[40..48].copy_from_slice(&34_u64.to_le_bytes());
    header[48..56].copy_from_slice(&(last - 33).to_le_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&header[..92]);
    header[16..20].copy_from_slice(&crc.sum().to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(at: u64, header: &[u8]) -> File {
        let file = crate::unlinked::in_memory("gpt").expect("memfd");
        file.write_all_at(header, at).expect("write");
        file
    }

    #[test]
    fn a_sound_header_tells_where_its_disk_ends() {
        let header = header_for(100 * 512);
        assert_eq!(
            find(&disk(512, &header)).expect("read"),
            Some(Gpt { sector: 512, minimum_size: Some(51200) })
        );
        assert_eq!(
            find(&disk(4096, &header)).expect("read"),
            Some(Gpt { sector: 4096, minimum_size: Some(409_600) })
        );
    }

    #[test]
    fn a_header_with_a_wrong_checksum_tells_nothing_but_that_it_is_there() {
        let mut header = header_for(51200);
        header[48] ^= 1;
        assert_eq!(find(&disk(512, &header)).expect("read"), Some(Gpt { sector: 512, minimum_size: None }));
        assert_eq!(find(&disk(1024, &header)).expect("read"), None);
    }
}
