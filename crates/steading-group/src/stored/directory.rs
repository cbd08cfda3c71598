//! A frozen group as a directory, whose files can be used where they lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::Utf8Path;
use fs_err as fs;
use steading_plan::Handle;

use super::copy::{Digest, copy, digest};
use super::{INDEX, Index, StoredError};
use crate::frozen::OpenedGroup;

/// Writes a frozen group into an empty directory, but for the files of which `is_kept` says no.
///
/// Anyone who may read the directory may log in to the group's guests.
///
/// # Errors
///
/// When there is no room, or it cannot be written to.
pub fn write_directory(
    opened: &OpenedGroup,
    directory: &Utf8Path,
    is_kept: impl Fn(Handle) -> bool,
) -> Result<(), StoredError> {
    let failed = |source| StoredError::Write { path: directory.to_owned(), source };
    let (mut index, files) = Index::new(opened, is_kept).map_err(failed)?;
    let copies = files.into_iter().map(|(name, file)| {
        let path = directory.join(&name);
        move || -> std::io::Result<(String, Digest)> {
            let from = File::from(file.try_clone()?);
            let to = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            Ok((name, copy(&from, to.file())?))
        }
    });
    index.digests = at_once(copies).map_err(failed)?;
    fs::write(directory.join(INDEX), index.encode().map_err(failed)?).map_err(failed)
}

/// Opens the frozen group in this directory, once everything was found to be as it was written.
///
/// # Errors
///
/// When it is damaged, of another version, or may have been written by another user.
pub fn open_directory(directory: &Utf8Path) -> Result<OpenedGroup, StoredError> {
    let failed = |source| StoredError::Read { path: directory.to_owned(), source };
    let data = fs::symlink_metadata(directory).map_err(failed)?;
    let is_ours = data.uid() == rustix::process::geteuid().as_raw() && data.is_dir();
    if !is_ours || data.permissions().mode() & 0o077 != 0 {
        return Err(StoredError::Foreign { path: directory.to_owned(), uid: data.uid() });
    }
    let index = Index::decode(&fs::read(directory.join(INDEX)).map_err(failed)?, directory)?;
    let digests = index.digests.clone();
    let opened = index.open(directory, |name, is_memory| {
        let file = fs::OpenOptions::new().read(true).write(is_memory).open(directory.join(name))?;
        Ok(file.into_parts().0.into())
    })?;
    let (_, files) = Index::new(&opened, |_| true).map_err(failed)?;
    let checks =
        files.into_iter().map(|(name, file)| move || Ok((name, digest(&File::from(file.try_clone()?))?)));
    let found = at_once(checks).map_err(failed)?;
    match digests.iter().find(|(name, digest)| found.get(*name) != Some(digest)) {
        None => Ok(opened),
        Some((name, _)) => Err(StoredError::Damaged {
            path: directory.to_owned(),
            what: format!("{name} is not as it was written"),
        }),
    }
}

/// Does all at once; no thread is left afterwards.
fn at_once<F>(tasks: impl Iterator<Item = F>) -> std::io::Result<BTreeMap<String, Digest>>
where
    F: FnOnce() -> std::io::Result<(String, Digest)> + Send,
{
    std::thread::scope(|scope| {
        let running: Vec<_> = tasks.map(|task| scope.spawn(task)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
