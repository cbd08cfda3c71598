//! What the tests of images share: fixtures, packers and helper processes.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use steading_sys::process;
use steading_vm::image::{Image, ImageCache, ImageError, Progress};
use tempfile::TempDir;

/// A directory with a cache in it.
pub(crate) struct Fixture {
    temp: TempDir,
    pub(crate) cache: ImageCache,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let cache = ImageCache::open(&utf8(temp.path()).join("cache")).expect("a cache");
        Self { temp, cache }
    }

    pub(crate) fn dir(&self) -> Utf8PathBuf {
        utf8(self.temp.path()).to_owned()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Utf8PathBuf {
        let path = self.dir().join(name);
        fs_err::write(&path, bytes).expect("write");
        path
    }

    pub(crate) fn prepare(&self, source: &Utf8Path) -> Result<Image, ImageError> {
        self.cache.prepare(source, None, &mut |_| ())
    }

    /// Prepares what must be refused, checks that nothing is left, and returns the message.
    pub(crate) fn refusal(&self, source: &Utf8Path) -> (ImageError, String) {
        let error = self.prepare(source).expect_err(source.as_str());
        assert_eq!(self.names("images"), [""; 0], "nothing is left of {source}");
        assert_eq!(self.names("locks"), [""; 0], "no lock file is left of {source}");
        let text = error.to_string();
        assert!(text.contains(source.as_str()) && text.contains("hint: "), "{text}");
        (error, text)
    }

    /// What is in a part of the cache.
    pub(crate) fn names(&self, part: &str) -> Vec<String> {
        let entries = fs_err::read_dir(self.cache.dir().join(part)).expect("list");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub(crate) fn utf8(path: &std::path::Path) -> &Utf8Path {
    Utf8Path::from_path(path).expect("UTF-8")
}

pub(crate) fn bytes_of(image: &Image) -> Vec<u8> {
    let file = image.open().expect("open");
    let mut bytes = vec![0; usize::try_from(image.size).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

/// Bytes that do not compress, the same for the same seed (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A disk with a boot sector, data, a large hole, data, and an odd number of sectors.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; (3 << 20) + 512];
    disk[..3].copy_from_slice(&[0xeb, 0x63, 0x90]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[4096..300_000].copy_from_slice(&noise(1, 300_000 - 4096));
    let end = disk.len();
    disk[end - 100_000..].copy_from_slice(&noise(2, 100_000));
    disk
}

/// The disk with zeros behind it, as the cache keeps it.
pub(crate) fn padded(mut disk: Vec<u8>) -> Vec<u8> {
    disk.resize(disk.len().next_multiple_of(4096), 0);
    disk
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    // As the command `zstd` does. Without it, damage may go unseen unless a digest is declared.
    encoder.include_checksum(true).expect("zstd");
    encoder.write_all(bytes).expect("zstd");
    encoder.finish().expect("zstd")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

pub(crate) fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::LzmaOptions::with_preset(0);
    let mut encoder = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).expect("lzma");
    encoder.write_all(bytes).expect("lzma");
    encoder.finish().expect("lzma")
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(0);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("xz");
    encoder.write_all(bytes).expect("xz");
    encoder.finish().expect("xz")
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // `set_path` would drop the "./".
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).expect("tar");
    }
    builder.into_inner().expect("tar")
}

/// Runs `qemu-img`; the set-up installs it.
pub(crate) fn qemu_img<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    process::run("qemu-img", "qemu-utils", args).expect("qemu-img (`cargo xtask setup` installs it)")
}

/// Runs `qemu-img` or `qemu-io` on an open file, which it finds as `/proc/self/fd/0`.
pub(crate) fn qemu_on<A: Into<OsString>>(
    program: &str,
    file: &File,
    args: impl IntoIterator<Item = A>,
) -> Vec<u8> {
    let stdin = Stdio::from(file.try_clone().expect("dup"));
    process::run_between(program, "qemu-utils", args, stdin, Stdio::piped()).expect(program)
}

/// Writes a qcow2 image of `disk` with more options, such as `-c`.
pub(crate) fn qcow2(fixture: &Fixture, name: &str, disk: &[u8], options: &[&str]) -> Utf8PathBuf {
    let raw = fixture.file("raw-for-qcow2", disk);
    let path = fixture.dir().join(name);
    let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
    args.extend(options);
    args.extend([raw.as_str(), path.as_str()]);
    qemu_img(args);
    path
}

/// Names the helper that this binary is to be, instead of running its tests.
pub(crate) const HELPER: &str = "STEADING_TEST_HELPER";

/// A command that runs this binary as the helper `name`.
pub(crate) fn helper(name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.env(HELPER, name).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What a helper process was given.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).expect("set by the test that starts this helper")
}

/// Whether any progress was unpacking.
pub(crate) fn has_unpacked(steps: &[Progress]) -> bool {
    steps.iter().any(|step| matches!(step, Progress::Unpacking { .. }))
}
