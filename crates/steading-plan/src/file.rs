//! Files that the group's file server offers to VMs, and how it is to misbehave.

use std::fmt::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{AddressPlan, ImageSource, Sha256};

/// The port of the file server, at the group's files address.
pub const FILES_PORT: u16 = 8080;

/// Under which name the file server lists what tells metrics, for Prometheus (`http_sd_config`).
pub const TARGETS_NAME: &str = "targets.json";

/// The longest name of a file, as of Linux's own (`NAME_MAX`, `linux/limits.h`).
const NAME_MAX: usize = 255;

/// A file that VMs can download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "File")]
pub struct FileSource {
    /// Where the file is.
    #[schemars(with = "String")]
    pub path: Utf8PathBuf,
    /// What it is called in its URL; the name of the file when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its SHA-256 must be, if that is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Sha256>,
}

/// A name that a file cannot be served by.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "a file cannot be served as {name:?}: {why}\nhint: `name` gives it another name than that of the file"
)]
pub struct FileNameError {
    name: String,
    why: &'static str,
}

impl FileSource {
    /// The file at this path.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self { path: path.into(), name: None, sha256: None }
    }

    /// The same file, under this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same file, refused unless its SHA-256 is this.
    #[must_use]
    pub fn sha256(mut self, sha256: Sha256) -> Self {
        self.sha256 = Some(sha256);
        self
    }

    /// What it is called.
    ///
    /// # Errors
    ///
    /// When that cannot be told from digests or from other paths.
    pub fn served_name(&self) -> Result<&str, FileNameError> {
        let name = self.name.as_deref().or(self.path.file_name()).unwrap_or_default();
        let why = match name {
            "" => "it is empty",
            "." | ".." => "it means a directory",
            name if name.len() > NAME_MAX => "it is longer than 255 bytes",
            name if name.contains('/') => "it holds a slash",
            name if name.chars().any(char::is_control) => "it holds a control character",
            TARGETS_NAME => "it is the list of metrics that the group serves itself",
            name if name.parse::<Sha256>().is_ok() => {
                "it is a SHA-256 digest, of which each file has its own"
            }
            name => return Ok(name),
        };
        Err(FileNameError { name: name.to_owned(), why })
    }
}

impl From<ImageSource> for FileSource {
    fn from(image: ImageSource) -> Self {
        Self { path: image.path, name: None, sha256: image.sha256 }
    }
}

impl From<&Utf8Path> for FileSource {
    fn from(path: &Utf8Path) -> Self {
        Self::new(path)
    }
}

impl AddressPlan {
    /// The URL at which the file server answers for this name or digest.
    pub fn file_url(&self, file: &str) -> String {
        let mut url = format!("http://[{}]:{FILES_PORT}/", self.files);
        for byte in file.bytes() {
            // Those that need no escape (RFC 3986, section 2.3).
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                url.push(char::from(byte));
            } else {
                write!(url, "%{byte:02X}").expect("a String takes all");
            }
        }
        url
    }
}

/// How the file server is to misbehave, with one file or with all.
///
/// ```
/// use steading_plan::FileFault;
///
/// assert_eq!(FileFault::cut_after(1000).of("update.img").to_string(), "cut update.img after 1000 bytes");
/// assert_eq!(FileFault::status(503).to_string(), "answer with status 503 for all files");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFault {
    /// The file, by its name or its digest; all if there is none.
    #[serde(default)]
    pub file: Option<String>,
    /// What it does.
    pub effect: FileEffect,
}

/// What the file server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FileEffect {
    /// It refuses connections. For one file, it resets the connection by which that is asked for.
    Refuse,
    /// It answers with an error.
    Status {
        /// The status (RFC 9110, sections 15.5 and 15.6).
        code: u16,
    },
    /// It breaks the connection in the middle of an answer.
    Cut {
        /// After so many bytes of the answer's body.
        after: u64,
    },
    /// It is slow.
    Slow {
        /// So many bytes a second, for each answer.
        bytes_per_second: u64,
    },
    /// It sends wrong bytes: every 4096th of the file is inverted.
    Corrupt,
}

/// A fault of the file server that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FileFaultError {
    /// A status that is no error.
    #[error("the status {0} is no error\nhint: errors are 400 to 599, such as 404 or 503 (RFC 9110)")]
    Status(u16),
    /// A rate of nothing.
    #[error("at a rate of nothing no answer ends\nhint: `cut` with 0 bytes ends answers before they begin")]
    Rate,
}

impl FileFault {
    /// This effect, for all files.
    pub const fn new(effect: FileEffect) -> Self {
        Self { file: None, effect }
    }

    /// Refuse connections; of one file, reset them.
    pub const fn refuse() -> Self {
        Self::new(FileEffect::Refuse)
    }

    /// Answer with this status.
    pub const fn status(code: u16) -> Self {
        Self::new(FileEffect::Status { code })
    }

    /// Break each answer after so many bytes of its body. Who asks for the rest gets as many again.
    pub const fn cut_after(bytes: u64) -> Self {
        Self::new(FileEffect::Cut { after: bytes })
    }

    /// Send no faster than so many bytes a second.
    pub const fn slow(bytes_per_second: u64) -> Self {
        Self::new(FileEffect::Slow { bytes_per_second })
    }

    /// Send wrong bytes, though as many as there are.
    pub const fn corrupt() -> Self {
        Self::new(FileEffect::Corrupt)
    }

    /// The same for one file only, by its name or its digest.
    #[must_use]
    pub fn of(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    ///
    /// When it does not; whether there is such a file only the server knows.
    pub const fn check(&self) -> Result<(), FileFaultError> {
        match self.effect {
            FileEffect::Status { code } if code < 400 || code > 599 => Err(FileFaultError::Status(code)),
            FileEffect::Slow { bytes_per_second: 0 } => Err(FileFaultError::Rate),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("all files");
        match self.effect {
            FileEffect::Refuse if self.file.is_none() => f.write_str("refuse connections to the file server"),
            FileEffect::Refuse => write!(f, "reset connections that ask for {file}"),
            FileEffect::Status { code } => write!(f, "answer with status {code} for {file}"),
            FileEffect::Cut { after } => write!(f, "cut {file} after {after} bytes"),
            FileEffect::Slow { bytes_per_second } => write!(f, "send {file} at {bytes_per_second} bytes/s"),
            FileEffect::Corrupt => write!(f, "send wrong bytes of {file}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_as_its_path_ends_unless_it_has_a_name() {
        assert_eq!(FileSource::new("a/update.img").served_name(), Ok("update.img"));
        assert_eq!(FileSource::new("a/update.img").name("new one").served_name(), Ok("new one"));
    }

    #[test]
    fn what_means_something_else_in_a_url_is_no_name() {
        let digest = Sha256::of("").to_string();
        for name in ["", ".", "..", "a/b", "a\nb", TARGETS_NAME, &digest, &"x".repeat(256)] {
            assert!(FileSource::new("f").name(name).served_name().is_err(), "{name:?}");
        }
        assert!(FileSource::new("/").served_name().is_err());
    }

    #[test]
    fn a_url_escapes_what_would_mean_something_else() {
        let addresses = AddressPlan::derive(&"g".parse().unwrap(), None).unwrap();
        let files = addresses.files;
        assert_eq!(addresses.file_url("a b?#%é"), format!("http://[{files}]:8080/a%20b%3F%23%25%C3%A9"));
        assert_eq!(addresses.file_url("a-b_c.d~"), format!("http://[{files}]:8080/a-b_c.d~"));
    }

    #[test]
    fn faults_that_make_no_sense_are_refused() {
        assert_eq!(FileFault::status(200).check(), Err(FileFaultError::Status(200)));
        assert_eq!(FileFault::slow(0).check(), Err(FileFaultError::Rate));
        assert_eq!(FileFault::status(404).check(), Ok(()));
        assert_eq!(FileFault::cut_after(0).check(), Ok(()));
    }
}
