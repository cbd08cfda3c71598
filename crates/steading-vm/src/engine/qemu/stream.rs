//! Takes the guest's memory out of a migration stream.
//!
//! QEMU leaves memory out of the stream only where it is mapped shared. That of a fork is mapped
//! privately, so it comes in the stream, page by page; but a VM that goes on from there maps
//! it, not to read it. So its pages are put into a file of their own, and what remains is the very
//! stream that a VM with shared memory would have written.
//!
//! The format is that of QEMU's `migration/savevm.c` and `migration/ram.c`, which has hardly changed
//! for what is read here since 2.x. Only the sections of `ram` are looked into: they come first, and
//! all behind them is passed on as it is.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt as _;

/// The guest's memory, as `-object` names it.
const BLOCK: &str = "memory";

/// What a page has, in bytes (x86-64).
const PAGE: usize = 4096;
/// How many pages that follow each other are written at once.
const RUN: usize = 64;

const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const SECTION_FOOTER: u8 = 0x7e;
/// No section but a command, with its number, the length of its data, and these (`QEMU_VM_COMMAND`). QEMU 10 says
/// with one that the source's CPUs are paused (`MIG_CMD_SWITCHOVER_START`).
const COMMAND: u8 = 0x08;

/// What is in the low bits of a page's offset.
const FLAG_ZERO: u64 = 0x02;
const FLAG_MEM_SIZE: u64 = 0x04;
const FLAG_PAGE: u64 = 0x08;
const FLAG_EOS: u64 = 0x10;
const FLAG_CONTINUE: u64 = 0x20;
const FLAGS: u64 = PAGE as u64 - 1;

/// How `ram` begins: the length of its name, the name, instance 0, version 4.
const RAM: &[u8] = b"\x03ram\0\0\0\0\0\0\0\x04";
/// Where `ram` begins at the latest: before it are the name of the machine and of some capabilities.
const HEADER_MAX: usize = 4096;

/// Reads a stream to its end, puts the pages of the guest's memory into `memory`, which is all
/// zeros, and all else into `rest`.
///
/// # Errors
///
/// When the stream is cut short or not understood, or something cannot be written.
pub(crate) fn split(stream: impl BufRead, memory: &File, rest: impl Write) -> io::Result<()> {
    Splitter { stream, rest, memory, block: String::new(), run: Run::default() }.split()
}

struct Splitter<'a, R, W> {
    stream: R,
    rest: W,
    memory: &'a File,
    /// The block that the last page belongs to.
    block: String,
    run: Run,
}

/// Pages that follow each other.
#[derive(Default)]
struct Run {
    offset: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead, W: Write> Splitter<'_, R, W> {
    fn split(mut self) -> io::Result<()> {
        self.header()?;
        // The first section is open here.
        self.blocks()?;
        self.pages()?;
        loop {
            match self.pass::<1>()? {
                [SECTION_FOOTER] => drop(self.pass::<4>()?),
                [COMMAND] => self.command()?,
                [SECTION_PART] => {
                    self.pass::<4>()?;
                    self.pages()?;
                }
                [SECTION_END] => {
                    self.pass::<4>()?;
                    self.pages()?;
                    break;
                }
                [kind] => return Err(strange(format!("a section of kind {kind:#x} among those of memory"))),
            }
        }
        self.run.write(self.memory)?;
        io::copy(&mut self.stream, &mut self.rest)?;
        self.rest.flush()
    }

    /// Passes on all up to the list of blocks.
    fn header(&mut self) -> io::Result<()> {
        let mut header = Vec::new();
        loop {
            let [byte] = self.pass::<1>()?;
            header.push(byte);
            // Before the name are the kind and the number of the section.
            let opens = header.len().checked_sub(RAM.len() + 5).map(|at| header[at]);
            if opens == Some(SECTION_START) && header.ends_with(RAM) {
                return Ok(());
            }
            if header.len() > HEADER_MAX {
                return Err(strange("memory does not come first"));
            }
        }
    }

    /// Passes on the list of blocks: names, lengths and addresses.
    fn blocks(&mut self) -> io::Result<()> {
        let total = u64::from_be_bytes(self.pass()?);
        if total & FLAGS != FLAG_MEM_SIZE {
            return Err(strange(format!("no list of memory blocks, but {total:#x}")));
        }
        let mut left = total & !FLAGS;
        while left > 0 {
            self.name()?;
            let length = u64::from_be_bytes(self.pass()?);
            // With x-ignore-shared each has its address, too.
            self.pass::<8>()?;
            left = left.checked_sub(length).ok_or_else(|| strange("blocks beyond their sum"))?;
        }
        Ok(())
    }

    /// Takes pages up to the end of the section's part.
    fn pages(&mut self) -> io::Result<()> {
        loop {
            let head: [u8; 8] = self.take()?;
            let (offset, flags) = (u64::from_be_bytes(head) & !FLAGS, u64::from_be_bytes(head) & FLAGS);
            if flags & FLAG_EOS != 0 {
                return self.rest.write_all(&head);
            }
            let mut name = Vec::new();
            if flags & FLAG_CONTINUE == 0 {
                let [length] = self.take()?;
                name.push(length);
                let mut text = vec![0; length.into()];
                self.stream.read_exact(&mut text)?;
                self.block = String::from_utf8_lossy(&text).into_owned();
                name.extend(text);
            }
            let length = match flags & !FLAG_CONTINUE {
                FLAG_PAGE => PAGE,
                FLAG_ZERO => 1,
                other => return Err(strange(format!("a page of kind {other:#x}"))),
            };
            if self.block != BLOCK {
                self.rest.write_all(&head)?;
                self.rest.write_all(&name)?;
                io::copy(&mut Read::take(&mut self.stream, length as u64), &mut self.rest)?;
            } else if length == PAGE {
                if !self.run.is_followed_by(offset) {
                    self.run.write(self.memory)?;
                    self.run.offset = offset;
                }
                let end = self.run.bytes.len();
                self.run.bytes.resize(end + PAGE, 0);
                self.stream.read_exact(&mut self.run.bytes[end..])?;
            } else {
                // All zeros, as in the file already.
                self.take::<1>()?;
            }
        }
    }

    fn command(&mut self) -> io::Result<()> {
        self.pass::<2>()?;
        let length = u16::from_be_bytes(self.pass()?);
        io::copy(&mut Read::take(&mut self.stream, length.into()), &mut self.rest)?;
        Ok(())
    }

    fn name(&mut self) -> io::Result<()> {
        let [length] = self.pass()?;
        let mut text = vec![0; length.into()];
        self.stream.read_exact(&mut text)?;
        self.rest.write_all(&text)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn pass<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.take()?;
        self.rest.write_all(&bytes)?;
        Ok(bytes)
    }
}

impl Run {
    fn is_followed_by(&self, offset: u64) -> bool {
        self.bytes.len() < RUN * PAGE && offset == self.offset + self.bytes.len() as u64
    }

    fn write(&mut self, memory: &File) -> io::Result<()> {
        memory.write_all_at(&self.bytes, self.offset)?;
        self.bytes.clear();
        Ok(())
    }
}

fn strange(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("QEMU wrote a state that is not understood: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::memory::empty;
    use super::*;

    const SIZE: u64 = 8 * PAGE as u64;

    /// A stream with the guest's memory and that of a display: its pages, and it without memory's.
    fn stream() -> (Vec<u8>, Vec<u8>) {
        let (mut whole, mut rest) = (Vec::new(), Vec::new());
        let mut both = |bytes: &[u8], is_rest: bool| {
            whole.extend_from_slice(bytes);
            if is_rest {
                rest.extend_from_slice(bytes);
            }
        };
        both(b"QEVM\0\0\0\x03\x07\0\0\0\x06pc-q35", true);
        both(b"\x01\0\0\0\x02", true);
        both(RAM, true);
        both(&((SIZE + PAGE as u64) | FLAG_MEM_SIZE).to_be_bytes(), true);
        for (name, length) in [("memory", SIZE), ("vga", PAGE as u64)] {
            both(&[u8::try_from(name.len()).expect("short")], true);
            both(name.as_bytes(), true);
            both(&length.to_be_bytes(), true);
            both(&0_u64.to_be_bytes(), true);
        }
        both(&FLAG_EOS.to_be_bytes(), true);
        both(b"\x7e\0\0\0\x02\x02\0\0\0\x02", true);
        both(&FLAG_PAGE.to_be_bytes(), false);
        both(b"\x06memory", false);
        both(&[1; PAGE], false);
        both(&(PAGE as u64 | FLAG_PAGE | FLAG_CONTINUE).to_be_bytes(), false);
        both(&[2; PAGE], false);
        both(&((3 * PAGE as u64) | FLAG_ZERO | FLAG_CONTINUE).to_be_bytes(), false);
        both(&[0], false);
        both(&FLAG_EOS.to_be_bytes(), true);
        both(b"\x7e\0\0\0\x02", true);
        // A command, with two bytes of data that look like a section.
        both(b"\x08\0\x0b\0\x02\x03\0", true);
        both(b"\x03\0\0\0\x02", true);
        both(&FLAG_PAGE.to_be_bytes(), true);
        both(b"\x03vga", true);
        both(&[3; PAGE], true);
        both(&((7 * PAGE as u64) | FLAG_PAGE).to_be_bytes(), false);
        both(b"\x06memory", false);
        both(&[4; PAGE], false);
        both(&FLAG_EOS.to_be_bytes(), true);
        both(b"\x7e\0\0\0\x02\x04 devices, of which nothing is known", true);
        (whole, rest)
    }

    #[test]
    fn pages_of_memory_go_to_their_file_and_all_else_stays() {
        let (whole, expected) = stream();
        let memory = empty(SIZE).expect("a file");
        let mut rest = Vec::new();
        split(whole.as_slice(), &memory, &mut rest).expect("understood");
        assert!(rest == expected, "the rest of the stream differs");
        let mut content = vec![0; 8 * PAGE];
        memory.read_exact_at(&mut content, 0).expect("read");
        let first: Vec<u8> = content.chunks(PAGE).map(|page| page[0]).collect();
        assert_eq!(first, [1, 2, 0, 0, 0, 0, 0, 4]);
    }

    #[test]
    fn a_stream_that_is_cut_short_is_an_error_wherever_it_is_cut() {
        let (whole, _) = stream();
        let devices = whole.len() - 40;
        for end in (0..devices).step_by(97) {
            let memory = empty(SIZE).expect("a file");
            assert!(split(&whole[..end], &memory, io::sink()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let memory = empty(SIZE).expect("a file");
        let error = split([7; 10_000].as_slice(), &memory, io::sink()).expect_err("no stream");
        assert!(error.to_string().contains("memory does not come first"), "{error}");
    }
}
