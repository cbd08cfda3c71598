//! Where the owner of a group is reached.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::{DIRECTORY_FD, SOCKET_NAME};

/// Where the owner of a group listens. Everything that is asked of a group goes there, so that a group on another
/// machine is one more kind of endpoint and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix socket of this machine, by its path.
    Unix(String),
}

impl Endpoint {
    /// The endpoint of the owner with this process number, of this user, on this machine. The path is short
    /// whatever the directory.
    pub fn of_owner(pid: i32) -> Self {
        Self::Unix(format!("/proc/{pid}/fd/{DIRECTORY_FD}/{SOCKET_NAME}"))
    }

    /// The path of the socket, where the group is on this machine.
    pub fn local_path(&self) -> Option<&str> {
        match self {
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl From<String> for Endpoint {
    fn from(path: String) -> Self {
        Self::Unix(path)
    }
}

impl From<&str> for Endpoint {
    fn from(path: &str) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl FromStr for Endpoint {
    type Err = Infallible;

    /// Reads what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_written() {
        let endpoint = Endpoint::of_owner(12);
        assert_eq!(endpoint.local_path(), Some("/proc/12/fd/900/control"));
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}
