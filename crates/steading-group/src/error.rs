//! Why a group does not come up.

use std::io;
use std::net::IpAddr;

use steading_files::FileError;
use steading_logs::LogError;
use steading_names::AuthorityError;
use steading_net::NetError;
use steading_plan::{FaultError, RecordError, ResolverError, SourceError};
use steading_sys::inherited::FilesError;
use steading_sys::namespace::{NamespaceError, SetupError};
use steading_sys::process::RunError;
use steading_sys::tap::TapError;
use steading_vm::engine::EngineError;
use thiserror::Error;

use crate::isolation::IsolationError;

/// Why a group does not come up.
#[derive(Debug, Error)]
pub enum GroupError {
    /// No namespaces.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// This process may open too few files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Namespaces that cannot be used.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// The launcher that is to be used cannot be, or not for this.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The launcher makes no network.
    #[error("the launcher has not made the group's network: {said}")]
    Launcher {
        /// What it says.
        said: String,
    },
    /// A file, socket or signal handler of the owner's own.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A fault that was kept with a frozen group, and makes no sense.
    #[error("cannot make the faults of the frozen group again")]
    Fault(#[from] FaultError),
    /// A file that cannot be served.
    #[error(transparent)]
    File(#[from] FileError),
    /// An address that was kept with a frozen group, and cannot be the driver's.
    #[error("cannot give the driver an address of the frozen group again")]
    Source(#[from] SourceError),
    /// A record that was kept with a frozen group, and cannot be one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A resolver that cannot be claimed.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// Nobody can answer there.
    #[error(
        "cannot answer for names at {address}, port 53\nhint: a program of the group may listen there itself"
    )]
    Dns {
        /// Where.
        address: IpAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Nobody can serve ACME there.
    #[error("cannot serve ACME at {address}, port 443")]
    Acme {
        /// Where.
        address: IpAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No TAP.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// No router daemon.
    #[error("cannot start the router daemon")]
    Router(#[from] RunError),
    /// A router daemon that ends at once.
    #[error("the router daemon (dnsmasq) ended at once: {said}")]
    RouterEnded {
        /// What it said.
        said: String,
    },
    /// A VM that cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No key for logging in.
    #[error("cannot make a key for logging in to guests")]
    Key(#[source] russh::keys::ssh_key::Error),
    /// What the owner said before it gave up, seen from outside.
    #[error("{0}")]
    Owner(String),
    /// The owner ended without a word.
    #[error(
        "the group's owner ended before the group was up\nhint: it was killed, or panicked; see its last lines above"
    )]
    Ended,
}

impl GroupError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
