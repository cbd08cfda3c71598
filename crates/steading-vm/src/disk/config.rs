//! The disk labelled `CONFIG`: a directory tree for a guest.
//!
//! A guest finds it by its label and mounts it. FAT knows no permissions: a guest sees every file as
//! executable, or none, as it mounts the disk (`fmask`), so an `activate` script in it is simply run.
//! For the same reason links and special files are refused here rather than lost.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};

use super::DiskError;
use super::fat;
use super::fat_node::FILE_MAX;
use super::fat_node::{Node, NodeContent};
use crate::unlinked;

/// Makes a FAT disk labelled `CONFIG` with what is in `dir`.
///
/// The file has no name; it lies on the file system of `scratch`, as a configuration may hold
/// container images. Times and modes of the files are not kept.
pub fn config_disk(dir: &Utf8Path, scratch: &Utf8Path) -> Result<File, DiskError> {
    let nodes = read_files(dir)?;
    let error = |source| DiskError::Write { place: scratch.to_string(), source };
    let disk = unlinked::create(scratch).map_err(error)?;
    fat::write(&disk, scratch.as_str(), *b"CONFIG     ", &nodes)?;
    Ok(disk)
}

/// Refuses a directory that makes no such disk, without making it.
pub fn check_config_dir(dir: &Utf8Path) -> Result<(), DiskError> {
    read_files(dir).map(drop)
}

fn read_files(dir: &Utf8Path) -> Result<Vec<Node>, DiskError> {
    let nodes = read_tree(dir)?;
    if nodes.iter().any(has_files) { Ok(nodes) } else { Err(DiskError::NoFiles { dir: dir.to_owned() }) }
}

fn has_files(node: &Node) -> bool {
    match &node.content {
        NodeContent::Directory(nodes) => nodes.iter().any(has_files),
        NodeContent::Bytes(_) | NodeContent::File { .. } => true,
    }
}

/// Lists a directory, sorted by name so that the same content gives the same disk.
fn read_tree(dir: &Utf8Path) -> Result<Vec<Node>, DiskError> {
    let error = |source| DiskError::Directory { dir: dir.to_owned(), source };
    let mut nodes = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        let path = Utf8PathBuf::from_path_buf(entry.path()).map_err(|path| DiskError::Name {
            path: path.to_string_lossy().into_owned(),
            reason: "it is not UTF-8".to_owned(),
        })?;
        let name = path.file_name().unwrap_or_default().to_owned();
        let metadata = fs_err::symlink_metadata(&path)
            .map_err(|source| DiskError::File { path: path.clone(), source })?;
        let kind = metadata.file_type();
        let content = if kind.is_dir() {
            NodeContent::Directory(read_tree(&path)?)
        } else if kind.is_file() {
            let size = metadata.len();
            if size > FILE_MAX {
                return Err(DiskError::TooLarge { path, size });
            }
            NodeContent::File { size }
        } else {
            return Err(DiskError::Special { path, kind: name_of(kind) });
        };
        nodes.push(Node { name, path, content });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

fn name_of(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fat::tests::read_back;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(temp.path()).expect("UTF-8").join("config");
        fs_err::create_dir(&dir).expect("mkdir");
        for (name, content) in files {
            let path = dir.join(name);
            fs_err::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs_err::write(path, content).expect("write");
        }
        (temp, dir)
    }

    fn make(dir: &Utf8Path) -> Result<File, DiskError> {
        config_disk(dir, Utf8Path::new("/tmp"))
    }

    #[test]
    fn a_tree_comes_back_with_its_long_names() {
        let large = vec![7; 100_000];
        let files: &[(&str, &[u8])] = &[
            ("activate", b"#!/bin/sh\n"),
            ("A rather long name, with spaces and (brackets).tar.zst", &large),
            ("sub/dir.d/10-\u{e9}t\u{e9}.conf", b"x"),
            ("sub/deep/er/\u{1f600} empty", b""),
        ];
        let (_temp, dir) = tree(files);
        let (label, found) = read_back(&make(&dir).expect("disk"));
        assert_eq!(label, "CONFIG");
        let wanted: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_fat_cannot_hold_is_refused_with_its_path() {
        let (_temp, dir) = tree(&[("a", b"1")]);
        std::os::unix::fs::symlink("a", dir.join("link")).expect("link");
        assert!(
            make(&dir).expect_err("link").to_string().contains(&format!("{dir}/link is a symbolic link"))
        );
        fs_err::remove_file(dir.join("link")).expect("remove");

        for (name, reason) in [
            ("a:b", "':'"),
            ("what?", "'?'"),
            ("dot.", "ends with"),
            ("space ", "ends with"),
            ("tab\t", "'\\t'"),
            ("A", "upper and lower case"),
        ] {
            fs_err::write(dir.join(name), "x").expect("write");
            let text = make(&dir).expect_err(name).to_string();
            assert!(text.contains(reason) && text.contains("hint: "), "{name}: {text}");
            fs_err::remove_file(dir.join(name)).expect("remove");
        }
        let large = fs_err::File::create(dir.join("large")).expect("create");
        large.set_len(4 << 30).expect("sparse");
        assert!(matches!(make(&dir), Err(DiskError::TooLarge { size: 0x1_0000_0000, .. })));
    }

    #[test]
    fn a_missing_directory_and_one_without_files_are_told_apart() {
        let (_temp, dir) = tree(&[]);
        fs_err::create_dir(dir.join("only-a-directory")).expect("mkdir");
        assert!(matches!(make(&dir), Err(DiskError::NoFiles { .. })));
        assert!(matches!(make(&dir.join("none")), Err(DiskError::Directory { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn any_tree_comes_back_and_gives_the_same_bytes_twice(
            files in prop::collection::btree_map("[a-z][a-z0-9_]{0,40}/[a-z]{1,30}[.][a-z]{1,4}", prop::collection::vec(any::<u8>(), 0..9000), 1..60),
        ) {
            let listed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            let (_temp, dir) = tree(&listed);
            let (first, second) = (make(&dir).expect("disk"), make(&dir).expect("disk"));
            prop_assert_eq!(&read_back(&first).1, &files);
            let bytes = |file: &File| { let mut b = Vec::new(); crate::disk::fat::tests::read_all(file, &mut b); b };
            prop_assert!(bytes(&first) == bytes(&second));
        }
    }
}
