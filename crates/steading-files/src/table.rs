//! What is served, and what is to go wrong with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use steading_plan::{FileEffect, FileFault, Sha256};

use crate::{FileError, ServedFile};

/// All files, by name and by digest, and the faults that are active.
#[derive(Debug, Default)]
pub(crate) struct Table {
    names: BTreeMap<String, Arc<ServedFile>>,
    digests: HashMap<Sha256, Arc<ServedFile>>,
    documents: BTreeMap<&'static str, Arc<Document>>,
    faults: BTreeMap<u32, FileFault>,
}

/// What is served under a name of the server's own, and replaced as things change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is (RFC 9110, section 8.3).
    pub content_type: &'static str,
    /// The whole of it.
    pub content: Vec<u8>,
}

/// What all active faults together do to one answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Misbehaviour {
    pub(crate) reset: bool,
    pub(crate) status: Option<u16>,
    pub(crate) cut_after: Option<u64>,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) corrupt: bool,
    /// The faults that it comes from.
    pub(crate) faults: Vec<u32>,
}

impl Table {
    /// Adds a file. One that is there already, by the same name and with the same content, is renewed.
    pub(crate) fn add(&mut self, file: ServedFile) -> Result<Arc<ServedFile>, FileError> {
        if let Some(other) = self.names.get(&file.name)
            && other.sha256 != file.sha256
        {
            return Err(FileError::Taken { name: file.name, other: other.sha256 });
        }
        let file = Arc::new(file);
        self.names.insert(file.name.clone(), Arc::clone(&file));
        self.digests.insert(file.sha256, Arc::clone(&file));
        Ok(file)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<Arc<ServedFile>, FileError> {
        let file = self.find(name)?;
        self.names.remove(&file.name);
        self.digests.remove(&file.sha256);
        if let Some(same) = self.names.values().find(|other| other.sha256 == file.sha256) {
            self.digests.insert(same.sha256, Arc::clone(same));
        }
        Ok(file)
    }

    /// The file of this name or digest.
    pub(crate) fn find(&self, wanted: &str) -> Result<Arc<ServedFile>, FileError> {
        let found = self.names.get(wanted).or_else(|| self.digests.get(&wanted.parse().ok()?));
        found.cloned().ok_or_else(|| FileError::Unknown {
            name: wanted.to_owned(),
            names: self.names.keys().cloned().collect(),
        })
    }

    /// Serves a document, in place of the one that had its name.
    pub(crate) fn set_document(&mut self, name: &'static str, document: Document) {
        self.documents.insert(name, Arc::new(document));
    }

    /// The document of this name. A file that was given the same goes before.
    pub(crate) fn document(&self, name: &str) -> Option<Arc<Document>> {
        (!self.names.contains_key(name)).then(|| self.documents.get(name).cloned()).flatten()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<ServedFile>> {
        self.names.values()
    }

    pub(crate) fn set_faults(&mut self, faults: BTreeMap<u32, FileFault>) {
        self.faults = faults;
    }

    /// Whether nobody is to be listened to.
    pub(crate) fn refuses_all(&self) -> bool {
        self.faults.values().any(|fault| fault.file.is_none() && fault.effect == FileEffect::Refuse)
    }

    /// What is to become of an answer about this: a file, or what was asked for in vain.
    pub(crate) fn misbehaviour(&self, wanted: &str, file: Option<&ServedFile>) -> Misbehaviour {
        let mut sum = Misbehaviour::default();
        if self.faults.is_empty() {
            return sum;
        }
        let is_meant = |name: &String| match file {
            Some(file) => {
                *name == file.name || name.parse().is_ok_and(|digest: Sha256| digest == file.sha256)
            }
            None => name == wanted,
        };
        for (id, fault) in self.faults.iter().filter(|(_, fault)| fault.file.as_ref().is_none_or(is_meant)) {
            sum.faults.push(*id);
            let least = |now: Option<u64>, new: u64| Some(now.map_or(new, |now| now.min(new)));
            match fault.effect {
                FileEffect::Refuse => sum.reset = true,
                FileEffect::Status { code } => sum.status = Some(code),
                FileEffect::Cut { after } => sum.cut_after = least(sum.cut_after, after),
                FileEffect::Slow { bytes_per_second } => {
                    sum.bytes_per_second = least(sum.bytes_per_second, bytes_per_second);
                }
                FileEffect::Corrupt => sum.corrupt = true,
            }
        }
        sum
    }
}
