//! An image as a testnet names it.

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Sha256;

/// A disk image, kernel or initrd as a file, in any format the image cache understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// Where the file is.
    #[schemars(with = "String")]
    pub path: Utf8PathBuf,
    /// What its SHA-256 must be, if that is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Sha256>,
}

impl ImageSource {
    /// The image in this file.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self { path: path.into(), sha256: None }
    }

    /// The same image, refused unless its SHA-256 is this.
    #[must_use]
    pub fn sha256(mut self, sha256: Sha256) -> Self {
        self.sha256 = Some(sha256);
        self
    }
}
