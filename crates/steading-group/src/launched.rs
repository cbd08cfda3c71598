//! The network of a group that the launcher has made, and keeps for as long as this process lives.

use std::collections::HashMap;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use camino::Utf8Path;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::process::Pid;
use steading_plan::{IfName, LaunchRequest};
use steading_sys::process::{Program, Started};

use crate::GroupError;
use crate::listening::Listening;
use steading_sys::processes::{ExitWatch, Processes};

/// What the launcher says when all is there.
const READY: &str = "ready";

/// How long it may take for a step: many times what it takes on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to remove what it has made.
pub(crate) const REMOVAL: Duration = Duration::from_secs(20);

/// Longer than any of its messages.
const MESSAGE_MAX: usize = 128;

/// The network, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Launched {
    launcher: String,
    request: LaunchRequest,
    keeper: Started,
    exit: ExitWatch,
    socket: OwnedFd,
    taps: HashMap<String, OwnedFd>,
}

impl Launched {
    /// Has it made.
    pub(crate) fn start(
        program: &Utf8Path,
        request: LaunchRequest,
        processes: &Processes,
    ) -> Result<(Self, Listening), GroupError> {
        let io = GroupError::io("speak with the launcher");
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (socket, theirs) = pair.map_err(|error| io(error.into()))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(|error| GroupError::io("speak with the launcher")(error.into()))?;
        let mut argv = vec![program.to_string(), "make".to_owned()];
        argv.extend(request.words());
        let make = Program {
            argv,
            package: None,
            env: Vec::new(),
            cwd: None,
            fds: vec![(theirs, 0)],
            network_capabilities: false,
        };
        let (keeper, exit) = processes.start(|| make.start(), |started| started.pid)?;
        let (launcher, taps) = (program.to_string(), HashMap::new());
        let mut network = Self { launcher, request, keeper, exit, socket, taps };
        let mut sockets = HashMap::new();
        loop {
            match network.receive() {
                Some((what, Some(descriptor))) => match what.strip_prefix("tap ") {
                    Some(name) => network.taps.insert(name.to_owned(), descriptor),
                    None => sockets.insert(what, descriptor),
                },
                Some((what, None)) if what == READY => break,
                _ => return Err(GroupError::Launcher { said: network.complaint() }),
            };
        }
        let listening = Listening::given(&network.request, sockets);
        Ok((network, listening))
    }

    /// Its next message; none when it has ended, or says nothing.
    fn receive(&self) -> Option<(String, Option<OwnedFd>)> {
        let mut bytes = [0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = &mut [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.socket, message, &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = received.ok().map(|received| received.bytes).filter(|length| *length > 0)?;
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Some((String::from_utf8_lossy(&bytes[..length]).into_owned(), descriptor))
    }

    /// What it says of why it has ended.
    fn complaint(mut self) -> String {
        // It ends at the latest when its socket does.
        drop(self.socket);
        let mut said = String::new();
        let read = self.keeper.stderr.read_to_string(&mut said);
        match (read, said.trim()) {
            (Err(error), _) => error.to_string(),
            (Ok(_), "") => "it said nothing".to_owned(),
            (Ok(_), said) => said.to_owned(),
        }
    }

    /// The process that keeps the network.
    pub(crate) const fn keeper(&self) -> Pid {
        self.keeper.pid
    }

    /// Its end, which is not to come.
    pub(crate) fn exit(&self) -> ExitWatch {
        self.exit.clone()
    }

    /// The host's end of a card, once.
    pub(crate) fn take_tap(&mut self, name: &IfName) -> Result<OwnedFd, GroupError> {
        let tap = self.taps.remove(name.as_str());
        tap.ok_or_else(|| GroupError::Launcher { said: format!("it has handed over no {name}") })
    }

    /// The command line of the router daemon.
    pub(crate) fn router(&self) -> Vec<String> {
        let mut argv = vec![self.launcher.clone(), "router".to_owned()];
        argv.extend(self.request.words());
        argv
    }

    /// Has it removed, and waits for that; what went wrong.
    pub(crate) async fn end(self) -> Option<String> {
        let Self { mut keeper, mut exit, socket, .. } = self;
        drop(socket);
        let in_time = tokio::time::timeout(REMOVAL, exit.ended()).await;
        if in_time.is_err() {
            return Some(format!("the launcher has not removed the network within {} s", REMOVAL.as_secs()));
        }
        let mut said = String::new();
        // All that it says was said before its end.
        let _ = keeper.stderr.read_to_string(&mut said);
        let said = said.trim();
        (!said.is_empty()).then(|| format!("the launcher has not removed all of the network: {said}"))
    }
}
