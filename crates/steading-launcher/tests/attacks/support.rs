//! The launcher as its users meet it, and a look at what it has made.

use std::ffi::OsStr;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use steading_testing::arena::inside;
use steading_testing::process::wait_for_end;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The launcher as it was built: without capabilities.
pub(crate) fn plain() -> PathBuf {
    // Where cargo told it when it built this, unless whoever runs it has put both elsewhere.
    std::env::var_os("CARGO_BIN_EXE_steading-launcher")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_steading-launcher").into())
        .into()
}

/// Runs the body of a test in the arena: this executable anew, with this test alone.
pub(crate) fn in_arena(test: &str, body: impl FnOnce(&Launcher)) {
    in_arena_on("", test, body);
}

/// The same on a host whose administrator has run a script before.
pub(crate) fn in_arena_on(host: &str, test: &str, body: impl FnOnce(&Launcher)) {
    inside(&plain(), host, test, |path| body(&Launcher { path: path.to_owned() }));
}

pub(crate) struct Launcher {
    pub(crate) path: PathBuf,
}

/// A launcher that keeps the network of a group, and what it has handed over.
pub(crate) struct Kept {
    pub(crate) child: Child,
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) handed: Vec<(String, OwnedFd)>,
    pub(crate) is_ready: bool,
}

pub(crate) fn packets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets")
}

impl Launcher {
    pub(crate) fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Output {
        self.command(words).output().expect("start the launcher")
    }

    /// What it says when it refuses.
    pub(crate) fn refusal<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "it did not refuse");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// Has it make a group, and takes all that it hands over.
    pub(crate) fn make(&self, words: &str) -> Kept {
        let (ours, theirs) = packets();
        let mut command = self.command(std::iter::once("make").chain(words.split_whitespace()));
        let child = command.stdin(theirs).stderr(Stdio::piped()).spawn().expect("start the launcher");
        // Else its end would not be seen.
        drop(command);
        let mut kept = Kept { child, socket: None, handed: Vec::new(), is_ready: false };
        while let Some((what, descriptor)) = receive(&ours) {
            let Some(descriptor) = descriptor else {
                assert_eq!(what, "ready");
                kept.is_ready = true;
                break;
            };
            kept.handed.push((what, descriptor));
        }
        kept.socket = Some(ours);
        kept
    }

    /// The same, which must succeed.
    pub(crate) fn made(&self, words: &str) -> Kept {
        let mut kept = self.make(words);
        let complaint = if kept.is_ready { String::new() } else { kept.complaint() };
        assert!(kept.is_ready, "{words:?} was not made: {complaint}");
        kept
    }
}

pub(crate) fn receive(socket: &OwnedFd) -> Option<(String, Option<OwnedFd>)> {
    let mut bytes = [0; 200];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = received.ok()?.bytes;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    (length > 0).then(|| (String::from_utf8_lossy(&bytes[..length]).into_owned(), descriptor))
}

impl Kept {
    /// What it says at its end.
    pub(crate) fn complaint(&mut self) -> String {
        wait_for_end(&self.child, SOON, "the launcher");
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("UTF-8");
        self.child.wait().expect("its end");
        said
    }

    /// Lets it end.
    pub(crate) fn close(mut self) {
        self.socket = None;
        wait_for_end(&self.child, SOON, "the launcher");
        assert!(self.child.wait().expect("its end").success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("its end");
    }

    pub(crate) fn what(&self) -> Vec<&str> {
        self.handed.iter().map(|(what, _)| what.as_str()).collect()
    }
}

/// What `ip` says of the host, in its own words.
pub(crate) fn ip(words: &str) -> String {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    let output = output.expect("ip of iproute2");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// All interfaces but `lo`, by name.
pub(crate) fn interfaces() -> Vec<String> {
    let names = ip("-o link")
        .lines()
        .filter_map(|line| Some(line.split(": ").nth(1)?.to_owned()))
        .collect::<Vec<_>>();
    let mut names: Vec<String> =
        names.into_iter().map(|name| name.split('@').next().unwrap_or_default().to_owned()).collect();
    names.retain(|name| name != "lo");
    names.sort();
    names
}

/// All that the network of this namespace has, as text: two of these are the same when nothing was changed.
pub(crate) fn everything() -> String {
    ["-o link", "-o addr", "route show table all", "-6 route show table all", "rule", "-6 rule", "neigh"]
        .map(ip)
        .map(|listed| {
            // Link-local addresses and their routes come a moment after a link is up, and so does its state.
            let lines: Vec<&str> = listed.lines().filter(|line| !line.contains("fe80::")).collect();
            lines.join("\n").replace(" linkdown", "")
        })
        .join("--\n")
}
