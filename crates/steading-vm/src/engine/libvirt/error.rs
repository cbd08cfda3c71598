//! What goes wrong with libvirt.

use camino::Utf8PathBuf;
use steading_sys::process::{Exit, RunError};
use thiserror::Error;

/// What cannot be done with libvirt.
#[derive(Debug, Error)]
pub enum LibvirtError {
    /// A program that cannot be started.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file or socket of the owner's own.
    #[error("cannot {action} for libvirt")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The daemon ends instead of serving.
    #[error("libvirt's daemon does not come up ({exit:?}){said}\nhint: {log} has what it said")]
    Daemon {
        /// How it ended.
        exit: Exit,
        /// What it complained about, with a line break before it; or nothing.
        said: String,
        /// Its log.
        log: Utf8PathBuf,
    },
    /// Something that libvirt refuses.
    #[error("`virsh {command}` failed: {said}")]
    Refused {
        /// What was asked.
        command: String,
        /// What virsh says.
        said: String,
    },
}

impl LibvirtError {
    /// Whether libvirt knows no such domain, or one that is off.
    pub fn is_off(&self) -> bool {
        let signs = ["failed to get domain", "domain is not running"];
        matches!(self, Self::Refused { said, .. } if signs.iter().any(|sign| said.contains(sign)))
    }

    pub(super) fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
