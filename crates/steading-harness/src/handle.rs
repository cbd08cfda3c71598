//! A group that this program holds: it has brought the group up, and ends it.
//!
//! What runs tests needs no more of a group than its endpoint, its end and its last words. So a group on another
//! machine is another [`GroupHandle`], and nothing else changes.

use std::io;

use rustix::process::{PidfdFlags, Signal};
use steading_api::{Client, Endpoint};
use steading_group::Owner;

/// A group that this program holds.
pub(crate) trait GroupHandle: Send {
    /// Where its owner listens.
    fn endpoint(&self) -> Endpoint;

    /// The process number of its owner, if that is on this machine.
    fn owner(&self) -> Option<i32>;

    /// Ends the group at once.
    fn kill(&self);

    /// Ends the group at once, while another thread waits for its [farewell](Self::farewell).
    fn killer(&self) -> Box<dyn FnOnce() + Send>;

    /// Waits for the end of the group. Returns the problems that its owner reports at the last, one in a line.
    fn farewell(self: Box<Self>) -> io::Result<String>;

    /// A client of the group.
    fn client(&self) -> Client {
        Client::new(self.endpoint())
    }
}

/// A group whose owner is a child of this process.
impl GroupHandle for Owner {
    fn endpoint(&self) -> Endpoint {
        Endpoint::of_owner(self.pid())
    }

    fn owner(&self) -> Option<i32> {
        Some(self.pid())
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn killer(&self) -> Box<dyn FnOnce() + Send> {
        // It is a child that was not waited for, so the number is its own.
        let pidfd = rustix::process::pidfd_open(self.process(), PidfdFlags::empty());
        Box::new(move || {
            if let Ok(pidfd) = pidfd {
                // It may have ended already.
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            }
        })
    }

    fn farewell(self: Box<Self>) -> io::Result<String> {
        self.wait_for_farewell()
    }
}
