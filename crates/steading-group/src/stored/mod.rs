//! Frozen groups that outlast the process they were frozen in: as a directory, for the cache of
//! booted testnets, and as one file, for failures that are looked at later or elsewhere.
//!
//! Both have an index, which is the description of the frozen group with the digests of its files,
//! and is itself digested: what is damaged or cut short is found out before anything starts.

mod archive;
mod copy;
mod directory;

use std::collections::{BTreeMap, HashMap};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use steading_plan::Handle;
use steading_vm::engine::{FrozenNames, FrozenVm};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

pub(crate) use archive::pack;
pub use archive::{Archive, write_archive};
pub use directory::{open_directory, write_directory};

use crate::frozen::{FROZEN_VERSION, FrozenError, FrozenGroup, OpenedGroup};
use copy::Digest;

/// The name of the index.
const INDEX: &str = "frozen";

/// Why a stored group cannot be written or used.
#[derive(Debug, Error)]
pub enum StoredError {
    /// It cannot be written.
    #[error("cannot store the frozen group in {path}")]
    Write {
        /// Where.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read the frozen group in {path}")]
    Read {
        /// Where it is.
        path: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It is no frozen group.
    #[error(
        "{path} is no frozen group\nhint: a run with --freeze-on-failure writes failure.steading into the directory of its logs"
    )]
    Other {
        /// Where it is.
        path: Utf8PathBuf,
    },
    /// It is not what was written.
    #[error("the frozen group in {path} is damaged: {what}")]
    Damaged {
        /// Where it is.
        path: Utf8PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It may have been written by somebody else.
    #[error(
        "the frozen group in {path} belongs to the user with the number {uid}, or others may write to it\nhint: remove it; a group would run what is in it"
    )]
    Foreign {
        /// Where it is.
        path: Utf8PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// It is of another version.
    #[error(transparent)]
    Frozen(#[from] FrozenError),
}

/// What is stored, as the index tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Index {
    group: FrozenGroup,
    digests: BTreeMap<String, Digest>,
}

impl Index {
    /// Of a group whose files get names of their own; one that several VMs have is there once. Those
    /// that `is_kept` does not name are left out.
    fn new(
        opened: &OpenedGroup,
        is_kept: impl Fn(Handle) -> bool,
    ) -> io::Result<(Self, Vec<(String, &FrozenFile)>)> {
        let mut group = opened.description.clone();
        let mut files = Vec::new();
        let mut known: HashMap<(u64, u64), String> = HashMap::new();
        let mut name = |wanted: String, file| -> io::Result<String> {
            let stat = rustix::fs::fstat(file)?;
            let name = known.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| {
                files.push((wanted.clone(), file));
                wanted
            });
            Ok(name.clone())
        };
        for (record, vm) in group.vms.iter_mut().zip(&opened.vms) {
            let mut names = FrozenNames::default();
            for (handle, file) in vm.files().filter(|(handle, _)| is_kept(*handle)) {
                names.files.insert(handle, name(format!("{}.{}", record.name, handle.as_str()), file)?);
            }
            for (number, file) in vm.layers().iter().enumerate() {
                names.layers.push(name(format!("{}.layer{number}", record.name), file)?);
            }
            record.files = names;
        }
        Ok((Self { group, digests: BTreeMap::new() }, files))
    }

    /// A line with the digest of the rest, and the rest.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec_pretty(self)?;
        Ok([format!("{:032x}\n", xxh3_128(&json)).as_bytes(), &json].concat())
    }

    fn decode(bytes: &[u8], path: &Utf8Path) -> Result<Self, StoredError> {
        let damaged = |what: String| StoredError::Damaged { path: path.to_owned(), what };
        let parts = bytes.split_at_checked(33).filter(|(digest, _)| digest[32] == b'\n');
        let (digest, json) = parts.ok_or_else(|| damaged("it has no whole index".to_owned()))?;
        if digest[..32] != *format!("{:032x}", xxh3_128(json)).as_bytes() {
            return Err(damaged("its index is not as it was written".to_owned()));
        }
        let not_read = |error: serde_json::Error| damaged(format!("its index: {error}"));
        let Versioned { group: Version { id, steading_frozen: found } } =
            serde_json::from_slice(json).map_err(not_read)?;
        if found != FROZEN_VERSION {
            return Err(FrozenError::Version { id, found }.into());
        }
        serde_json::from_slice(json).map_err(not_read)
    }

    /// The group, with its files from `open`.
    fn open(
        self,
        path: &Utf8Path,
        mut open: impl FnMut(&str, bool) -> io::Result<FrozenFile>,
    ) -> Result<OpenedGroup, StoredError> {
        let vms = self.group.vms.iter().map(|record| {
            FrozenVm::open_with(&record.files, &mut open)
                .map_err(|source| StoredError::Read { path: path.to_owned(), source })
        });
        Ok(OpenedGroup { vms: vms.collect::<Result<_, _>>()?, description: self.group })
    }
}

/// What is in the index of every version.
#[derive(Deserialize)]
struct Versioned {
    group: Version,
}

#[derive(Deserialize)]
struct Version {
    id: String,
    steading_frozen: u32,
}

type FrozenFile = std::os::fd::OwnedFd;
