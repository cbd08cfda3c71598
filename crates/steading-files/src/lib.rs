//! Serves files over HTTP to the VMs of a group: there is no network they could be downloaded from.
//!
//! A file is known by its SHA-256 and by a name. What is sent comes from the kernel's page cache
//! straight to the socket (sendfile(2)), so a file of any size takes no memory here. The server has
//! threads of its own, for a disk may be slow and the group's owner must not wait for it. It can be made to
//! misbehave, for tests of those who download.
//!
//! HTTP is written here, since no crate serves like this: `hyper` and what is built on it own the
//! socket, send bodies through memory, and see to it that an answer is whole. This server sends by
//! sendfile(2), and must be able to cut answers short, to drip them and to reset connections. Heads,
//! dates and escapes are read by `httparse`, `httpdate` and `percent-encoding`.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod connection;
mod error;
mod file;
mod request;
mod server;
mod state;
mod table;

pub use access::Access;
pub use error::FileError;
pub use file::{ServedFile, digest};
pub use request::{BadRequest, FileRequest, Range};
pub use server::FileServer;
pub use table::Document;
