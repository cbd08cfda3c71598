//! How a group is asked for things: the control API's types and its client.
//!
//! The API is HTTP/1.1 over a unix socket that has no name on the host: it lies on the group's own
//! tmpfs and is reached through the owner's open descriptor, see [`socket_path`]. Bodies are JSON;
//! streams are JSON Lines.

#![forbid(unsafe_code)]

mod client;
mod endpoint;
mod lines;
mod types;

pub use client::{Bytestream, Client, ClientError, GuestConnection, Lines};
pub use endpoint::Endpoint;
pub use lines::LineDecoder;
/// As everybody who uses the API tells errors.
pub use steading_plan::chain;
pub use types::{
    ActiveFault, ActiveFileFault, AuthorityStatus, Certificate, CertificateRequest, CommandOutput,
    ConsoleFrom, ConsoleMatch, ConsoleWait, Ended, Ending, Failure, FailureKind, FaultRequest,
    FileFaultRequest, FileStatus, Freeze, FreezeRequest, GroupStatus, GuestCommand, Input, LogLine,
    NameStatus, NamesStatus, Note, OutputStream, ProcessEvent, ProcessSpec, RawBytes, RecordRemoval,
    Screenshot, Streams, TerminalSize, VmState, VmStatus, VmVerb,
};

/// The number of the owner's descriptor of its private directory, the same in every group.
pub const DIRECTORY_FD: u32 = 900;

/// Why a VM is off ([`Ended::reason`]) whose guest has powered off by itself, or at its power button.
pub const GUEST_POWERED_OFF: &str = "the guest powered off";

/// The name of the control socket in the owner's private directory.
pub const SOCKET_NAME: &str = "control";

/// The name of the plan, as JSON, in the owner's private directory.
pub const FACTS_NAME: &str = "testnet.json";

/// The name of the private key that may log in to guests, in the owner's private directory.
pub const KEY_NAME: &str = "ssh_key";

/// The name of the certificate of the group's authority, in the owner's private directory.
pub const CA_NAME: &str = "ca.pem";

/// What the owner's process is called, with the group's name behind it (`comm` in proc(5)).
pub const OWNER_PREFIX: &str = "st:";

/// Where the owner with this process number listens. The path is short whatever the directory.
pub fn socket_path(owner: i32) -> String {
    Endpoint::of_owner(owner).to_string()
}
