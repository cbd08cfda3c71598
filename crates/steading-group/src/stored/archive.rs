//! A frozen group as one compressed file: a tar archive in a Zstandard frame, index first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_plan::Handle;
use steading_vm::engine::reopen;
use steading_vm::image::Aside;
use steading_vm::unlinked;

use super::copy::{copy_stream, digest};
use super::{INDEX, Index, StoredError};
use crate::frozen::{FrozenGroup, OpenedGroup};

/// Fast; memory of guests gets hardly smaller at higher levels.
const LEVEL: i32 = 3;

/// Where the run that it comes from is, in the archive.
const RUN: &str = "run";

/// How each begins (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The largest index that is read, in bytes: far more than any has.
const INDEX_MAX: u64 = 64 << 20;

/// Writes a frozen group into a new file, with the directory of the run that it comes from, but for
/// the files of which `is_kept` says no. The file gets its name once it is whole.
///
/// Anyone who may read the file may log in to the group's guests.
///
/// # Errors
///
/// When there is no room, or it cannot be written.
pub fn write_archive(
    opened: &OpenedGroup,
    run: &Utf8Path,
    file: &Utf8Path,
    is_kept: impl Fn(Handle) -> bool,
) -> Result<(), StoredError> {
    let written = || -> io::Result<()> {
        let directory = file.parent().filter(|parent| !parent.as_str().is_empty());
        let directory = directory.unwrap_or(Utf8Path::new("."));
        let aside = Aside::create(directory)?;
        pack(opened, Some(run), aside.file(), is_kept)?;
        aside.publish(file, 0o600).map(drop)
    };
    written().map_err(|source| StoredError::Write { path: file.to_owned(), source })
}

/// Writes a frozen group to a sink, with the directory of the run that it comes from, if one is given.
pub(crate) fn pack(
    opened: &OpenedGroup,
    run: Option<&Utf8Path>,
    sink: impl Write,
    is_kept: impl Fn(Handle) -> bool,
) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(sink, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = tar::Builder::new(encoder);
    let (mut index, files) = Index::new(opened, is_kept)?;
    for (name, file) in &files {
        index.digests.insert(name.clone(), digest(&File::from(file.try_clone()?))?);
    }
    append(&mut archive, INDEX, index.encode()?.as_slice(), None)?;
    for (name, file) in files {
        let file = File::from(reopen(file)?);
        let length = file.metadata()?.len();
        append(&mut archive, &name, file, Some(length))?;
    }
    if let Some(run) = run {
        append_run(&mut archive, run)?;
    }
    archive.into_inner()?.finish()?.flush()
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    mut content: impl Read,
    length: Option<u64>,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    let Some(length) = length else {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        header.set_size(bytes.len() as u64);
        return archive.append_data(&mut header, name, bytes.as_slice());
    };
    header.set_size(length);
    archive.append_data(&mut header, name, content)
}

/// The logs and results up to now. Other frozen groups are not put into this one.
fn append_run<W: Write>(archive: &mut tar::Builder<W>, run: &Utf8Path) -> io::Result<()> {
    let mut left = vec![run.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in directory.read_dir_utf8()? {
            let path = entry?.into_path();
            let data = fs::symlink_metadata(&path)?;
            if data.is_dir() {
                left.push(path);
            } else if data.is_file() && path.extension() != Some(Archive::EXTENSION) {
                let name = Utf8Path::new(RUN).join(path.strip_prefix(run).unwrap_or(&path));
                // Logs may grow meanwhile; what is there now is taken.
                let mut content = Vec::new();
                fs::File::open(&path)?.read_to_end(&mut content)?;
                append(archive, name.as_str(), content.as_slice(), None)?;
            }
        }
    }
    Ok(())
}

/// A frozen group in a file, of which the index was read.
pub struct Archive {
    path: Utf8PathBuf,
    tar: tar::Archive<zstd::Decoder<'static, BufReader<File>>>,
    index: Index,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Archive {
    /// What the names of such files end with.
    pub const EXTENSION: &str = "steading";

    /// Opens the file, and reads what is in it.
    ///
    /// # Errors
    ///
    /// When it is damaged, none of ours, or of another version.
    pub fn open(path: &Utf8Path) -> Result<Self, StoredError> {
        let failed = |source| StoredError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?.into_parts().0;
        let mut begin = [0; MAGIC.len()];
        match file.read_exact_at(&mut begin, 0) {
            // One that is cut short is damaged.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(failed(error)),
            Ok(()) if begin != MAGIC => return Err(StoredError::Other { path: path.to_owned() }),
            Ok(()) => {}
        }
        let mut archive = tar::Archive::new(zstd::Decoder::new(file).map_err(failed)?);
        let mut bytes = Vec::new();
        let mut read_index = || -> io::Result<bool> {
            let Some(entry) = archive.entries()?.next() else { return Ok(false) };
            let entry = entry?;
            let is_index = entry.path()?.to_str() == Some(INDEX);
            entry.take(INDEX_MAX).read_to_end(&mut bytes)?;
            Ok(is_index)
        };
        match read_index() {
            Ok(true) => {}
            Ok(false) => return Err(damaged(path, "it does not begin with an index")),
            Err(error) => return Err(damaged(path, &error.to_string())),
        }
        let index = Index::decode(&bytes, path)?;
        // An archive is read once; its entries are counted from the beginning.
        let file = fs::File::open(path).map_err(failed)?.into_parts().0;
        let tar = tar::Archive::new(zstd::Decoder::new(file).map_err(failed)?);
        Ok(Self { path: path.to_owned(), tar, index })
    }

    /// What is in it.
    pub fn description(&self) -> &FrozenGroup {
        &self.index.group
    }

    /// Unpacks it: files of VMs as files without a name in `scratch`, the run that it comes from
    /// into `run`, a directory.
    ///
    /// # Errors
    ///
    /// When it is damaged, or there is no room.
    pub fn unpack(self, scratch: &Utf8Path, run: &Utf8Path) -> Result<OpenedGroup, StoredError> {
        let Self { path, tar: mut archive, index } = self;
        let wrong = |error: io::Error| damaged(&path, &error.to_string());
        let failed = |at: &Utf8Path| {
            let at = at.to_owned();
            move |source| StoredError::Write { path: at, source }
        };
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        for entry in archive.entries().map_err(wrong)? {
            let mut entry = entry.map_err(wrong)?;
            let name = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
            if let Some(name) = name.strip_prefix(&format!("{RUN}/")) {
                let target = run.join(name);
                // A name that leads out of the directory is nobody's log.
                let is_inside = Utf8Path::new(name)
                    .components()
                    .all(|part| matches!(part, camino::Utf8Component::Normal(_)));
                if !is_inside {
                    return Err(damaged(&path, &format!("{name} leads out of it")));
                }
                let parent = target.parent().unwrap_or(run);
                fs::create_dir_all(parent).map_err(failed(parent))?;
                let mut file = fs::File::create(&target).map_err(failed(&target))?;
                io::copy(&mut entry, &mut file).map_err(wrong)?;
            } else if let Some(expected) = index.digests.get(&name) {
                let file = unlinked::create(scratch).map_err(failed(scratch))?;
                let found = copy_stream(&mut entry, &file).map_err(wrong)?;
                if found != *expected {
                    return Err(damaged(&path, &format!("{name} is not as it was written")));
                }
                files.insert(name, file);
            }
        }
        // The checksum of all stands at the very end, behind the archive's own.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(wrong)?;
        if let Some(missing) = index.digests.keys().find(|name| !files.contains_key(*name)) {
            return Err(damaged(&path, &format!("{missing} is missing: it was cut short")));
        }
        index.open(&path.clone(), |name, is_memory| {
            let file = files.get(name).ok_or(io::ErrorKind::NotFound)?.try_clone()?.into();
            if is_memory { Ok(file) } else { reopen(&file) }
        })
    }
}

fn damaged(path: &Utf8Path, what: &str) -> StoredError {
    StoredError::Damaged { path: path.to_owned(), what: what.to_owned() }
}
