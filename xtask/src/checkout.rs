//! The files of a checkout: what they are, and a copy of them that an ordinary user can read.
//!
//! The copy is shared by all clones of a machine, so a file whose contents are already there is
//! left alone, with its time: cargo does not rebuild it. A file that differs gets the time of the
//! copy, not that of the clone, which may be older than what was last built from another clone;
//! cargo would then take the old build for current.

use std::{
    collections::BTreeSet,
    fmt,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    process::Command,
};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

use crate::command;

/// The files that git has or would take, as paths relative to the root. Without git or a `.git`
/// (an unpacked archive), all files but those that no clone has.
pub(crate) fn files(root: &Utf8Path) -> anyhow::Result<Vec<Utf8PathBuf>> {
    let files = if root.join(".git").exists() { listed_by_git(root)? } else { walk(root)? };
    // Deleted, and git has not been told.
    Ok(files.into_iter().filter(|file| root.join(file).symlink_metadata().is_ok()).collect())
}

fn listed_by_git(root: &Utf8Path) -> anyhow::Result<Vec<Utf8PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root)
        // Root may look into a user's clone. It builds it next; trust is not the question here.
        .args(["-c", &format!("safe.directory={root}")])
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
    let listed = command::output(&mut git)?;
    Ok(listed.split_terminator('\0').map(Utf8PathBuf::from).collect())
}

fn walk(root: &Utf8Path) -> anyhow::Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![Utf8PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in root.join(&directory).read_dir_utf8().with_context(|| format!("{root}/{directory}"))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                let skipped =
                    directory.as_str().is_empty() && ["target", "out", ".git"].contains(&entry.file_name());
                if !skipped {
                    directories.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What a copy changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    written: usize,
    removed: usize,
    kept: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files written, {} removed, {} as they were", self.written, self.removed, self.kept)
    }
}

/// Makes `to` hold the checkout's files and no others, all readable by everyone.
pub(crate) fn copy(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<Changes> {
    let files: BTreeSet<Utf8PathBuf> = files(from)?.into_iter().collect();
    let mut changes = Changes::default();
    fs::create_dir_all(to)?;
    fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    remove_others(to, &files, &mut changes)?;
    for file in &files {
        if copy_file(&from.join(file), &to.join(file))? {
            changes.written += 1;
        } else {
            changes.kept += 1;
        }
    }
    Ok(changes)
}

/// Removes what is not listed, and directories that hold nothing listed.
fn remove_others(to: &Utf8Path, files: &BTreeSet<Utf8PathBuf>, changes: &mut Changes) -> anyhow::Result<()> {
    let directories: BTreeSet<&Utf8Path> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
    let mut pending = vec![Utf8PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for entry in to.join(&directory).read_dir_utf8().with_context(|| format!("{to}/{directory}"))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            match (entry.file_type()?.is_dir(), directories.contains(path.as_path())) {
                (true, true) => pending.push(path),
                (true, false) => {
                    fs::remove_dir_all(entry.path())?;
                    changes.removed += 1;
                }
                (false, _) if !files.contains(&path) => {
                    fs::remove_file(entry.path())?;
                    changes.removed += 1;
                }
                (false, _) => {}
            }
        }
    }
    Ok(())
}

/// Copies one file, unless the same is there; tells whether it did.
fn copy_file(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<bool> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_dir() {
        // A repository within the repository, which git lists as one entry.
        return Ok(false);
    }
    let (contents, mode) = if metadata.is_symlink() {
        (fs::read_link(from)?.as_os_str().as_bytes().to_owned(), None)
    } else {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        (fs::read(from)?, Some(if executable { 0o755 } else { 0o644 }))
    };

    if let Ok(old) = fs::symlink_metadata(to) {
        if old.is_symlink() && mode.is_none() {
            if fs::read_link(to)?.as_os_str().as_bytes() == contents {
                return Ok(false);
            }
        } else if old.is_file()
            && mode == Some(old.permissions().mode() & 0o7777)
            && fs::read(to)? == contents
        {
            return Ok(false);
        }
        if old.is_dir() { fs::remove_dir_all(to)? } else { fs::remove_file(to)? }
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match mode {
        None => fs::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&contents), to)?,
        Some(mode) => {
            fs::write(to, contents)?;
            fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Trees {
        _directory: tempfile::TempDir,
        from: Utf8PathBuf,
        to: Utf8PathBuf,
    }

    /// Two directories, the first with a few files in it and without git.
    fn trees() -> anyhow::Result<Trees> {
        let directory = tempfile::tempdir()?;
        let path = Utf8Path::from_path(directory.path()).context("the path is UTF-8")?;
        let (from, to) = (path.join("from"), path.join("to"));
        fs::create_dir_all(from.join("guest"))?;
        fs::create_dir_all(from.join("target/debug"))?;
        fs::write(from.join("target/debug/x"), "built")?;
        fs::write(from.join("Cargo.toml"), "[workspace]")?;
        fs::write(from.join("guest/build"), "#!/bin/sh")?;
        fs::set_permissions(from.join("guest/build"), std::fs::Permissions::from_mode(0o700))?;
        fs::os::unix::fs::symlink("guest/build", from.join("link"))?;
        Ok(Trees { _directory: directory, from, to })
    }

    #[test]
    fn a_copy_is_readable_and_leaves_out_what_was_built() -> anyhow::Result<()> {
        let trees = trees()?;
        let changes = copy(&trees.from, &trees.to)?;
        assert_eq!(changes, Changes { written: 3, removed: 0, kept: 0 });
        let mode = |path: &str| fs::metadata(trees.to.join(path)).map(|m| m.permissions().mode() & 0o777);
        assert_eq!((mode("guest/build")?, mode("Cargo.toml")?), (0o755, 0o644));
        assert_eq!(trees.to.join("link").read_link_utf8()?, "guest/build");
        assert!(!trees.to.join("target").exists());
        Ok(())
    }

    #[test]
    fn a_second_copy_touches_only_what_differs() -> anyhow::Result<()> {
        let trees = trees()?;
        copy(&trees.from, &trees.to)?;
        let time = fs::metadata(trees.to.join("guest/build"))?.modified()?;
        fs::write(trees.from.join("Cargo.toml"), "[workspace] # changed")?;
        fs::write(trees.from.join("guest/build"), "#!/bin/sh")?;
        assert_eq!(copy(&trees.from, &trees.to)?, Changes { written: 1, removed: 0, kept: 2 });
        assert_eq!(fs::metadata(trees.to.join("guest/build"))?.modified()?, time);
        assert_eq!(fs::read_to_string(trees.to.join("Cargo.toml"))?, "[workspace] # changed");
        Ok(())
    }

    #[test]
    fn a_changed_file_is_newer_than_the_last_build_whatever_its_own_time() -> anyhow::Result<()> {
        let trees = trees()?;
        copy(&trees.from, &trees.to)?;
        let built = fs::metadata(trees.to.join("Cargo.toml"))?.modified()?;
        fs::write(trees.from.join("Cargo.toml"), "older, but different")?;
        fs::File::options()
            .write(true)
            .open(trees.from.join("Cargo.toml"))?
            .file()
            .set_modified(std::time::UNIX_EPOCH)?;
        copy(&trees.from, &trees.to)?;
        assert!(fs::metadata(trees.to.join("Cargo.toml"))?.modified()? >= built);
        Ok(())
    }

    #[test]
    fn what_vanished_from_the_checkout_vanishes_from_the_copy() -> anyhow::Result<()> {
        let trees = trees()?;
        copy(&trees.from, &trees.to)?;
        fs::remove_dir_all(trees.from.join("guest"))?;
        fs::remove_file(trees.from.join("link"))?;
        assert_eq!(copy(&trees.from, &trees.to)?, Changes { written: 0, removed: 2, kept: 1 });
        assert!(!trees.to.join("guest").exists());
        Ok(())
    }

    #[test]
    fn a_file_takes_the_place_of_a_directory() -> anyhow::Result<()> {
        let trees = trees()?;
        copy(&trees.from, &trees.to)?;
        fs::remove_dir_all(trees.from.join("guest"))?;
        fs::write(trees.from.join("guest"), "a file now")?;
        copy(&trees.from, &trees.to)?;
        assert_eq!(fs::read_to_string(trees.to.join("guest"))?, "a file now");
        Ok(())
    }
}
