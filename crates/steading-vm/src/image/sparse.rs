//! Writing a raw image with holes.
//!
//! Most of a disk image is zeros. Blocks of zeros are not written but left as holes, so an image of
//! ten gigabytes takes the room of what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::ImageError;
use super::space::Budget;

/// The unit in which zeros are looked for, in bytes: the cluster size of the overlays above.
pub(crate) const BLOCK: usize = 64 << 10;
const CHUNK: usize = 16 * BLOCK;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Why copying stopped.
pub(crate) enum CopyError {
    /// The reader failed.
    Read(io::Error),
    /// The image could not be written.
    Write(ImageError),
}

/// Copies all of `from` to the start of the empty file `to`, leaving holes for zeros.
///
/// Returns the length. `tick` is told the length reached, about once a mebibyte.
pub(crate) fn copy(
    from: &mut dyn Read,
    to: &File,
    budget: &Budget,
    tick: &mut dyn FnMut(u64),
) -> Result<u64, CopyError> {
    let mut chunk = vec![0; CHUNK];
    let (mut offset, mut held) = (0, 0);
    loop {
        let length = fill(from, &mut chunk).map_err(CopyError::Read)?;
        let data = write_runs(to, offset, &chunk[..length])
            .map_err(|source| CopyError::Write(budget.write_error(held, offset + length as u64, source)))?;
        offset += length as u64;
        held += data;
        if data > 0 {
            // One statvfs a mebibyte; nobody beside us should ever meet a file system that we filled.
            budget.check(held, 0).map_err(|error| CopyError::Write(error.into()))?;
        }
        tick(offset);
        if length < CHUNK {
            break;
        }
    }
    to.set_len(offset).map_err(|source| CopyError::Write(budget.write_error(held, offset, source)))?;
    Ok(offset)
}

/// Fills the buffer unless the reader ends; returns how much was read.
pub(crate) fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Writes each run of blocks that are not zeros in one call; returns the bytes written.
fn write_runs(to: &File, offset: u64, chunk: &[u8]) -> io::Result<u64> {
    let mut written = 0;
    let mut run_start = None;
    for start in (0..chunk.len()).step_by(BLOCK) {
        let end = chunk.len().min(start + BLOCK);
        let is_zero = chunk[start..end] == ZEROS[..end - start];
        match (is_zero, run_start) {
            (false, None) => run_start = Some(start),
            (true, Some(run)) => {
                to.write_all_at(&chunk[run..start], offset + run as u64)?;
                written += start - run;
                run_start = None;
            }
            _ => {}
        }
    }
    if let Some(run) = run_start {
        to.write_all_at(&chunk[run..], offset + run as u64)?;
        written += chunk.len() - run;
    }
    Ok(written as u64)
}
