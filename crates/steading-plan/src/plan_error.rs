//! Why a testnet cannot be planned.

use camino::Utf8PathBuf;
use thiserror::Error;

use crate::{
    ChannelError, DeclarationError, FileNameError, NameError, NestedError, PrefixError, RecordError,
    ResolverError, ResourceError, VmName,
};

/// A testnet that cannot be planned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A prefix that cannot be one.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// A file's name that cannot be one.
    #[error(transparent)]
    FileName(#[from] FileNameError),
    /// Two files of one name.
    #[error(
        "two files are to be served as {name:?}: {first} and {second}\nhint: give one of them another name, with `name`"
    )]
    DuplicateFile {
        /// The name.
        name: String,
        /// The one file.
        first: Utf8PathBuf,
        /// The other.
        second: Utf8PathBuf,
    },
    /// A record that cannot be one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A resolver that cannot be claimed.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A value that cannot be honoured.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// A VM that cannot be inside another.
    #[error(transparent)]
    Nested(#[from] NestedError),
    /// More than a way into a guest carries.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// More than the host has.
    #[error(transparent)]
    Resources(#[from] ResourceError),
    /// Two VMs of one name.
    #[error(
        "two VMs are named {0}: VMs {1} and {2} in the order of declaration\nhint: a VM's name is its host name and the seed of its address; give each its own"
    )]
    Duplicate(VmName, usize, usize),
    /// Two names whose digests begin alike.
    #[error(
        "the names {0} and {1} lead to the same {2}\nhint: rename one of them; this happens to one pair in millions"
    )]
    Collision(VmName, VmName, &'static str),
    /// Firmware has nothing to boot.
    #[error("VM {0} boots by firmware and has no disk\nhint: give it a disk, or boot a kernel")]
    NoDisk(VmName),
    /// A credential's name that would not reach the guest whole.
    #[error(
        "VM {vm} has a credential named {name:?}\nhint: credential names are file names without '=', ':' or '/' (systemd.exec(5))"
    )]
    Credential {
        /// The VM.
        vm: VmName,
        /// The name.
        name: String,
    },
    /// Something that the engine does not have.
    #[error("VM {vm} {what}, and {why}\nhint: remove that, or use --engine qemu")]
    Unsupported {
        /// The VM.
        vm: VmName,
        /// What it asks for.
        what: &'static str,
        /// Why the engine does not have it.
        why: &'static str,
    },
    /// A text that XML cannot hold.
    #[error(
        "VM {vm}: {what} holds the character {character:?}, which a libvirt domain cannot\nhint: encode it, or use the engine qemu"
    )]
    Unspeakable {
        /// The VM.
        vm: VmName,
        /// Where it is.
        what: &'static str,
        /// The character.
        character: char,
    },
    /// A text that QEMU or the kernel would cut short.
    #[error("VM {vm}: {what} holds a NUL byte\nhint: command lines end at a NUL; remove it")]
    Nul {
        /// The VM.
        vm: VmName,
        /// Where it is.
        what: &'static str,
    },
}
