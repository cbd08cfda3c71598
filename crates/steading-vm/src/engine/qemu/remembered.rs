//! Answers about this host that cost time to find, kept in the image cache.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Serialize, de::DeserializeOwned};
use steading_plan::Sha256;

use super::QEMU;

/// One answer, in a file of its own.
pub(super) struct Remembered {
    file: Utf8PathBuf,
}

impl Remembered {
    /// The answer of this `kind`, a directory's name, that depends on what `key` says.
    pub(super) fn new(cache: &Utf8Path, kind: &str, key: &str) -> Self {
        Self { file: cache.join(kind).join(format!("{}.json", Sha256::of(key))) }
    }

    /// The answer, if there is one.
    pub(super) fn recall<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(&self.file).ok()?).ok()
    }

    /// Keeps the answer. A failure costs time at the next start, no more, so it is not reported.
    pub(super) fn keep(&self, answer: &impl Serialize) {
        let _ = self.try_keep(answer);
    }

    fn try_keep(&self, answer: &impl Serialize) -> std::io::Result<()> {
        let directory = self.file.parent().unwrap_or(&self.file);
        fs::create_dir_all(directory)?;
        let aside = directory.join(format!(".{}", std::process::id()));
        fs::write(&aside, serde_json::to_vec(answer)?)?;
        fs::rename(&aside, &self.file)
    }
}

/// A text that changes when the installed QEMU does.
pub(super) fn installed_qemu() -> String {
    let found = steading_sys::search::find(QEMU);
    let found = found.and_then(|file| Some((file.clone(), fs::metadata(file).ok()?)));
    format!("{:?}", found.map(|(file, data)| (file, data.len(), data.modified().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_recalled_by_its_key_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Utf8Path::from_path(directory.path()).expect("UTF-8");
        Remembered::new(cache, "features", "qemu 7").keep(&["erms"]);
        let recalled = |key| Remembered::new(cache, "features", key).recall::<Vec<String>>();
        assert_eq!(recalled("qemu 7"), Some(vec!["erms".to_owned()]));
        assert_eq!(recalled("qemu 10"), None);
    }
}
