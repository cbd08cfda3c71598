//! Copies of files that are mostly zeros, and digests by which damage is found.
//!
//! Only pages that are not all zeros are copied, and only those are digested, each with its place:
//! so a copy has the same digest wherever its holes are. The digest (XXH3, 128 bits) finds
//! accidents; nobody else can write where such files are kept.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// The unit in which zeros are looked for, in bytes.
const PAGE: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 256 * PAGE;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// Bytes.
    length: u64,
    /// Of its pages and their places, in hexadecimal.
    xxh3: String,
}

/// Copies all of `from` to the start of the empty file `to`.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<Digest> {
    let digest = file_pages(from, |at, run| to.write_all_at(run, at))?;
    to.set_len(digest.length)?;
    Ok(digest)
}

/// Copies what a stream has to the start of the empty file `to`.
pub(crate) fn copy_stream(mut from: impl Read, to: &File) -> io::Result<Digest> {
    let mut pages = Pages::default();
    let mut chunk = Vec::new();
    let mut at = 0;
    loop {
        chunk.clear();
        from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        pages.take(at, &chunk, &mut |at, run| to.write_all_at(run, at))?;
        at += chunk.len() as u64;
        if chunk.len() < CHUNK {
            break;
        }
    }
    to.set_len(at)?;
    Ok(pages.digest(at))
}

/// The digest of a file.
pub(crate) fn digest(file: &File) -> io::Result<Digest> {
    file_pages(file, |_, _| Ok(()))
}

/// Visits what is not zeros in a file, in runs of pages, and digests it.
fn file_pages(file: &File, mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let length = file.metadata()?.len();
    let mut pages = Pages::default();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(data))?;
        // Pages are counted from the beginning, wherever a file system's blocks begin.
        at = data / PAGE as u64 * PAGE as u64;
        while at < end {
            let wanted = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = &mut chunk[..wanted];
            file.read_exact_at(chunk, at)?;
            pages.take(at, chunk, &mut visit)?;
            at += wanted as u64;
        }
    }
    Ok(pages.digest(length))
}

/// What was digested up to now.
#[derive(Default)]
struct Pages(Xxh3Default);

impl Pages {
    /// Takes what is at this place, a multiple of a page's size.
    fn take(
        &mut self,
        at: u64,
        chunk: &[u8],
        visit: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        // One comparison for most of what there is.
        if chunk == &ZEROS[..chunk.len()] {
            return Ok(());
        }
        let is_zero = |page: &&[u8]| **page == ZEROS[..page.len()];
        let pages: Vec<&[u8]> = chunk.chunks(PAGE).collect();
        let mut first = 0;
        for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
            let end = first + run.iter().map(|page| page.len()).sum::<usize>();
            if !is_zero(&run[0]) {
                for (place, page) in (at + first as u64..).step_by(PAGE).zip(run) {
                    self.0.update(&place.to_le_bytes());
                    self.0.update(page);
                }
                visit(at + first as u64, &chunk[first..end])?;
            }
            first = end;
        }
        Ok(())
    }

    fn digest(&self, length: u64) -> Digest {
        Digest { length, xxh3: format!("{:032x}", self.0.digest128()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek as _;
    use std::os::unix::fs::MetadataExt as _;

    fn file() -> File {
        tempfile::tempfile().expect("a file")
    }

    #[test]
    fn a_copy_has_the_same_content_and_digest_and_fewer_blocks() {
        let from = file();
        from.set_len(10 << 20).expect("length");
        from.write_all_at(&[7; 10_000], 1 << 20).expect("write");
        // Zeros that are there.
        from.write_all_at(&vec![0; 1 << 20], 4 << 20).expect("write");
        from.write_all_at(b"end", (10 << 20) - 3).expect("write");
        let to = file();
        let copied = copy(&from, &to).expect("copied");
        assert_eq!(copied, digest(&from).expect("digest"));
        assert_eq!(copied, digest(&to).expect("digest"));
        let streamed = file();
        // To look for holes moves the place to read from.
        (&from).rewind().expect("rewound");
        assert_eq!(copied, copy_stream(&from, &streamed).expect("copied"));
        assert_eq!(copied, digest(&streamed).expect("digest"));
        assert!(to.metadata().expect("stat").blocks() < from.metadata().expect("stat").blocks());
        let mut content = vec![0; 10 << 20];
        to.read_exact_at(&mut content, 0).expect("read");
        let mut expected = vec![0; 10 << 20];
        from.read_exact_at(&mut expected, 0).expect("read");
        assert!(content == expected);
    }

    #[test]
    fn one_bit_or_one_byte_of_length_changes_the_digest() {
        let one = file();
        one.write_all_at(&[1; 3 * PAGE], 0).expect("write");
        let before = digest(&one).expect("digest");
        one.set_len(3 * PAGE as u64 + 1).expect("length");
        assert_ne!(before, digest(&one).expect("digest"));
        one.set_len(3 * PAGE as u64).expect("length");
        assert_eq!(before, digest(&one).expect("digest"));
        one.write_all_at(&[3], 5000).expect("write");
        assert_ne!(before, digest(&one).expect("digest"));
    }

    #[test]
    fn the_same_page_elsewhere_is_another_file() {
        let [one, other] = [0, 2].map(|page: u64| {
            let file = file();
            file.set_len(4 * PAGE as u64).expect("length");
            file.write_all_at(&[1; PAGE], page * PAGE as u64).expect("write");
            digest(&file).expect("digest")
        });
        assert_ne!(one, other);
    }

    #[test]
    fn an_empty_file_has_a_digest() {
        assert_eq!(digest(&file()).expect("digest").length, 0);
    }
}
