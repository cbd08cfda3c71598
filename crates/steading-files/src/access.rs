//! What the server tells of each request.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

/// A request that was answered, or was not, on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When it came.
    pub began: Timestamp,
    /// How long the answer took.
    pub took: Duration,
    /// Who asked.
    pub peer: IpAddr,
    /// `GET`, `HEAD`, or what it was.
    pub method: String,
    /// The file's name, if there is such a file; else what was asked for.
    pub file: String,
    /// The status of the answer; none if the connection was reset instead.
    pub status: Option<u16>,
    /// Where in the file the answer begins.
    pub first: u64,
    /// How many bytes of a body were announced.
    pub announced: u64,
    /// How many were sent.
    pub sent: u64,
    /// The faults that had a part in it, by number.
    pub faults: Vec<u32>,
    /// What is wrong with the file itself, if something is.
    pub trouble: Option<String>,
}

impl Access {
    /// Whether all that was announced was sent.
    pub fn is_whole(&self) -> bool {
        self.status.is_some() && self.sent == self.announced
    }
}
