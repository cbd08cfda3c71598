//! The socket by which the driver gets what was made, and by whose end it is told that all is to go.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, ensure};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, recv, sendmsg,
};

/// The last message: all is there.
const READY: &str = "ready";

/// Standard input, which must be a socket of the driver's.
pub(crate) struct Handover(io::Stdin);

impl Handover {
    /// Takes it, if it is one.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let stdin = io::stdin();
        let is_it = socket_domain(&stdin) == Ok(AddressFamily::UNIX)
            && socket_type(&stdin) == Ok(SocketType::SEQPACKET);
        ensure!(
            is_it,
            "standard input is no unix socket of packets\nhint: the driver starts the launcher, not people"
        );
        Ok(Self(stdin))
    }

    /// Hands over a descriptor, with what it is.
    pub(crate) fn give(&self, what: &str, descriptor: BorrowedFd<'_>) -> anyhow::Result<()> {
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(&self.0, &[IoSlice::new(what.as_bytes())], &mut control, SendFlags::NOSIGNAL);
        sent.map(drop).with_context(|| format!("cannot hand over {what}"))
    }

    /// Says that all is there, and waits until the other end is closed, or says anything at all.
    pub(crate) fn wait_for_end(&self) -> anyhow::Result<()> {
        let said = rustix::net::send(&self.0, READY.as_bytes(), SendFlags::NOSIGNAL);
        said.context("cannot say that all is there")?;
        let mut byte = [0];
        loop {
            match recv(self.0.as_fd(), &mut byte, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                // An error of the socket is its end as well.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}
