//! Writing a FAT file system, all of it in one go.
//!
//! The whole tree is known before the first byte is written, so nothing has to be searched, every file
//! is contiguous, and the tables are written once. It is FAT32 in every case, although small disks could
//! be FAT16: its root directory has no fixed size, and the disk is a sparse file, so the space it has
//! more is not taken. The layout is that of Microsoft's "FAT32 File System Specification", version 1.03.
//!
//! No crate does this. `fatfs` (0.3.6), which reads the disks in the tests, refuses characters beyond
//! U+FFFF and names of more than 255 bytes of UTF-8; it takes a name that another file has as its
//! generated short name (`activa~1.lon`) for that file, and overwrites it; and it searches the whole
//! directory for each new file: 2000 files took a minute.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use camino::Utf8Path;

use super::DiskError;
use super::fat_names::{ShortNames, check_names, long_entries, long_form};
use super::fat_node::{ENTRY, Node, NodeContent};

const SECTOR: u64 = 512;
/// FAT32 has at least 65525 clusters; some tools want a few more.
const CLUSTERS_MIN: u64 = 65_600;
const CLUSTER_MAX: u64 = 32 << 10;
/// Sectors in front of the tables: two boot sectors and two information sectors are in them.
const RESERVED_SECTORS: u8 = 32;
const BACKUP_BOOT_SECTOR: u8 = 6;
const TABLES: u8 = 2;
/// Room that a guest finds free, in bytes, in addition to a sixteenth of what is used.
const SLACK: u64 = 1 << 20;
/// Bytes of the largest directory (65536 entries).
const DIRECTORY_MAX: u64 = 2 << 20;
const COPY_SIZE: usize = 1 << 20;
/// The same for every disk, so that the same content gives the same bytes.
const VOLUME_ID: u32 = 0x5354_4421;
/// The first day that FAT knows, 1 January 1980, for the same reason.
const DATE: u16 = 1 << 5 | 1;
const END_OF_CHAIN: u32 = 0x0fff_ffff;

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;

/// Writes a file system with that label and those files into the empty file `disk`.
///
/// `place` says where the disk is, for messages.
pub(crate) fn write(disk: &File, place: &str, label: [u8; 11], nodes: &[Node]) -> Result<(), DiskError> {
    check_names(nodes)?;
    let geometry = Geometry::for_nodes(nodes)?;
    let error = |source| DiskError::Write { place: place.to_owned(), source };
    disk.set_len(u64::from(geometry.sectors) * SECTOR).map_err(error)?;
    // The first two entries stand for no cluster; they say that the disk was put away in order.
    let mut writer = Writer { disk, place, geometry, table: vec![0x0fff_fff8, END_OF_CHAIN] };
    writer.directory(nodes, Place::Root(label))?;
    writer.finish(label).map_err(error)
}

/// How large the file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    /// Bytes.
    cluster: u64,
    clusters: u32,
    table_sectors: u32,
    sectors: u32,
}

impl Geometry {
    fn for_nodes(nodes: &[Node]) -> Result<Self, DiskError> {
        let bytes = clusters_of(nodes, 1);
        // As few clusters as FAT32 may have, so that its tables stay small.
        let mut cluster = SECTOR;
        while cluster < CLUSTER_MAX && cluster * 2 * CLUSTERS_MIN <= bytes {
            cluster *= 2;
        }
        let used = clusters_of(nodes, cluster);
        let clusters = CLUSTERS_MIN.max(used + used / 16 + SLACK / cluster);
        let table_sectors = ((clusters + 2) * 4).div_ceil(SECTOR);
        let sectors =
            u64::from(RESERVED_SECTORS) + u64::from(TABLES) * table_sectors + clusters * (cluster / SECTOR);
        let fit = |value| u32::try_from(value).map_err(|_| DiskError::DiskTooLarge { bytes });
        Ok(Self {
            cluster,
            clusters: fit(clusters)?,
            table_sectors: fit(table_sectors)?,
            sectors: fit(sectors)?,
        })
    }

    fn table_at(&self, index: u8) -> u64 {
        (u64::from(RESERVED_SECTORS) + u64::from(index) * u64::from(self.table_sectors)) * SECTOR
    }

    fn cluster_at(&self, number: u32) -> u64 {
        self.table_at(TABLES) + (u64::from(number) - 2) * self.cluster
    }
}

/// Clusters that the content of a directory takes, and the directory itself.
fn clusters_of(nodes: &[Node], cluster: u64) -> u64 {
    let content = |node: &Node| match &node.content {
        NodeContent::Directory(children) => clusters_of(children, cluster),
        NodeContent::File { size } => size.div_ceil(cluster),
        NodeContent::Bytes(bytes) => (bytes.len() as u64).div_ceil(cluster),
    };
    directory_bytes(nodes).div_ceil(cluster) + nodes.iter().map(content).sum::<u64>()
}

/// Bytes of a directory: a short entry and its long ones for each name, and two more: `.` and `..`, or
/// the label.
fn directory_bytes(nodes: &[Node]) -> u64 {
    let entries: usize = nodes.iter().map(|node| 1 + long_entries(&node.name)).sum();
    ((entries + 2) * ENTRY) as u64
}

/// Which directory is written.
#[derive(Debug, Clone, Copy)]
enum Place {
    Root([u8; 11]),
    /// Below the directory that starts at that cluster; 0 is the root.
    Below(u32),
}

struct Writer<'a> {
    disk: &'a File,
    place: &'a str,
    geometry: Geometry,
    /// The allocation table so far; its length is the next free cluster.
    table: Vec<u32>,
}

impl Writer<'_> {
    /// Writes a directory and all below it; returns its first cluster.
    fn directory(&mut self, nodes: &[Node], place: Place) -> Result<u32, DiskError> {
        let size = directory_bytes(nodes);
        if size > DIRECTORY_MAX {
            return Err(DiskError::DiskTooLarge { bytes: clusters_of(nodes, 1) });
        }
        let first = self.allocate(size);
        let own_for_children = if matches!(place, Place::Root(_)) { 0 } else { first };
        let mut bytes = Vec::new();
        match place {
            Place::Root(label) => bytes.extend(entry(label, ATTRIBUTE_LABEL, 0, 0)),
            Place::Below(parent) => {
                bytes.extend(entry(*b".          ", ATTRIBUTE_DIRECTORY, first, 0));
                bytes.extend(entry(*b"..         ", ATTRIBUTE_DIRECTORY, parent, 0));
            }
        }
        let mut names = ShortNames::new(nodes.iter().map(|node| node.name.as_str()));
        for node in nodes {
            let (attribute, start, size) = match &node.content {
                NodeContent::Directory(children) => {
                    (ATTRIBUTE_DIRECTORY, self.directory(children, Place::Below(own_for_children))?, 0)
                }
                NodeContent::Bytes(content) => {
                    let size = content.len() as u64;
                    (ATTRIBUTE_ARCHIVE, self.file(&mut content.as_slice(), &node.path, size)?, size)
                }
                NodeContent::File { size } => {
                    let error = |source| DiskError::File { path: node.path.clone(), source };
                    let mut file = fs_err::File::open(&node.path).map_err(error)?;
                    (ATTRIBUTE_ARCHIVE, self.file(&mut file, &node.path, *size)?, *size)
                }
            };
            let size =
                u32::try_from(size).map_err(|_| DiskError::TooLarge { path: node.path.clone(), size })?;
            let short = names.of(&node.name);
            bytes.extend(long_form(&node.name, short));
            bytes.extend(entry(short, attribute, start, size));
        }
        self.put(&bytes, self.geometry.cluster_at(first))?;
        Ok(first)
    }

    /// Writes the content of a file; returns its first cluster, 0 if it is empty.
    fn file(&mut self, from: &mut dyn Read, path: &Utf8Path, size: u64) -> Result<u32, DiskError> {
        let changed = || DiskError::Changed { path: path.to_owned() };
        let first = self.allocate(size);
        let mut buffer = vec![0; COPY_SIZE.min(usize::try_from(size + 1).unwrap_or(COPY_SIZE))];
        let mut done = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(|source| DiskError::File { path: path.to_owned(), source })?,
            };
            if count == 0 {
                break;
            }
            if done + count as u64 > size {
                return Err(changed());
            }
            self.put(&buffer[..count], self.geometry.cluster_at(first) + done)?;
            done += count as u64;
        }
        if done == size { Ok(first) } else { Err(changed()) }
    }

    /// Takes the next clusters for so many bytes, in one run; returns the first, 0 for none.
    fn allocate(&mut self, bytes: u64) -> u32 {
        let count = bytes.div_ceil(self.geometry.cluster);
        let first = self.next_free();
        for _ in 1..count {
            self.table.push(self.next_free() + 1);
        }
        if count == 0 {
            return 0;
        }
        self.table.push(END_OF_CHAIN);
        first
    }

    fn next_free(&self) -> u32 {
        u32::try_from(self.table.len()).expect("the geometry was made for these nodes")
    }

    /// Writes the tables, and at last what makes it a file system.
    fn finish(self, label: [u8; 11]) -> io::Result<()> {
        let table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        for index in 0..TABLES {
            self.disk.write_all_at(&table, self.geometry.table_at(index))?;
        }
        let (boot, info) = (boot_sector(&self.geometry, label), self.information_sector());
        for sector in [u64::from(BACKUP_BOOT_SECTOR), 0] {
            self.disk.write_all_at(&info, (sector + 1) * SECTOR)?;
            self.disk.write_all_at(&boot, sector * SECTOR)?;
        }
        Ok(())
    }

    /// Section 5: how many clusters are free, and where to look for one.
    fn information_sector(&self) -> [u8; 512] {
        let next = self.next_free();
        let mut sector = [0; 512];
        let mut put = |at: usize, value: u32| sector[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, 0x4161_5252);
        put(484, 0x6141_7272);
        put(488, self.geometry.clusters + 2 - next);
        put(492, next);
        put(508, 0xaa55_0000);
        sector
    }

    fn put(&self, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        self.disk
            .write_all_at(bytes, at)
            .map_err(|source| DiskError::Write { place: self.place.to_owned(), source })
    }
}

/// Section 3: the boot sector with its parameter block.
fn boot_sector(geometry: &Geometry, label: [u8; 11]) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]); // jump to the code
    put(3, b"STEADING");
    put(11, &[0x00, 0x02]); // 512 bytes a sector
    put(13, &[u8::try_from(geometry.cluster / SECTOR).expect("at most 64 sectors a cluster")]);
    put(14, &[RESERVED_SECTORS, 0]);
    put(16, &[TABLES]);
    put(21, &[0xf8]); // a fixed disk
    put(24, &63_u16.to_le_bytes()); // sectors a track, of a geometry that nobody uses
    put(26, &255_u16.to_le_bytes()); // heads
    put(32, &geometry.sectors.to_le_bytes());
    put(36, &geometry.table_sectors.to_le_bytes());
    put(44, &2_u32.to_le_bytes()); // cluster of the root directory
    put(48, &[1, 0]); // information sector
    put(50, &[BACKUP_BOOT_SECTOR, 0]);
    put(64, &[0x80]); // drive number
    put(66, &[0x29]); // the next three are there
    put(67, &VOLUME_ID.to_le_bytes());
    put(71, &label);
    put(82, b"FAT32   ");
    put(90, &[0xf4, 0xeb, 0xfd]); // code: halt, again
    put(510, &[0x55, 0xaa]);
    sector
}

/// Section 6: a short directory entry.
fn entry(name: [u8; 11], attribute: u8, cluster: u32, size: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
    let [low, high] = [cluster & 0xffff, cluster >> 16].map(u32::to_le_bytes);
    put(0, &name);
    put(11, &[attribute]);
    put(16, &DATE.to_le_bytes()); // made
    put(18, &DATE.to_le_bytes()); // read
    put(20, &high[..2]);
    put(24, &DATE.to_le_bytes()); // written
    put(26, &low[..2]);
    put(28, &size.to_le_bytes());
    entry
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::disk::fat_node::FILE_MAX;
    use fatfs::{FileSystem, FsOptions};
    use std::collections::BTreeMap;

    /// Reads a whole file, from its start.
    pub(crate) fn read_all(file: &File, bytes: &mut Vec<u8>) {
        bytes.resize(usize::try_from(file.metadata().expect("stat").len()).expect("small"), 0);
        file.read_exact_at(bytes, 0).expect("read");
    }

    /// The label and all files of a disk, by their path.
    pub(crate) fn read_back(disk: &File) -> (String, BTreeMap<String, Vec<u8>>) {
        let mut bytes = Vec::new();
        read_all(disk, &mut bytes);
        let file_system = FileSystem::new(io::Cursor::new(bytes), FsOptions::new()).expect("a file system");
        let mut files = BTreeMap::new();
        let mut dirs = vec![(String::new(), file_system.root_dir())];
        while let Some((prefix, dir)) = dirs.pop() {
            for entry in dir.iter().map(|entry| entry.expect("entry")) {
                let name = entry.file_name();
                if entry.is_file() {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content).expect("read");
                    files.insert(format!("{prefix}{name}"), content);
                } else if name != "." && name != ".." {
                    dirs.push((format!("{prefix}{name}/"), entry.to_dir()));
                }
            }
        }
        let label = file_system.read_volume_label_from_root_dir().expect("read").expect("a label");
        assert_eq!(file_system.volume_label(), label);
        (label, files)
    }

    #[test]
    fn larger_content_has_larger_clusters_and_always_room_left() {
        for size in [0, 1, 1 << 20, 40 << 20, 500 << 20, FILE_MAX] {
            let nodes: Vec<Node> = (0..3)
                .map(|i| Node { name: format!("{i}"), path: "x".into(), content: NodeContent::File { size } })
                .collect();
            let geometry = Geometry::for_nodes(&nodes).expect("fits");
            let clusters = u64::from(geometry.clusters);
            assert!(clusters >= CLUSTERS_MIN, "{geometry:?}");
            assert!(clusters < 4 * CLUSTERS_MIN || geometry.cluster == CLUSTER_MAX, "{geometry:?}");
            assert!(clusters * geometry.cluster > 3 * size + SLACK);
        }
    }
}
