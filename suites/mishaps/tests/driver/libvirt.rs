//! Groups whose VMs libvirt runs: what is seen of them from outside, and what is left when something of
//! theirs is killed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use steading_testing::process::{assert_nothing_runs, ends_within, marked, signal_to, wait_for_text};

use crate::support::{FAILED, Mishap, PASSED, USAGE, program, random, seed};

/// Groups of which something is killed, and within which time from their beginning.
const ROUNDS: usize = 8;
const KILLS: u64 = 3_000;

/// Far more than such a group takes.
const LONG: Duration = Duration::from_secs(120);

/// A group whose function stays until it is told to go on.
struct Group {
    name: String,
    run: Mishap,
    child: Child,
    /// libvirt gives QEMU an environment of its own, in which this is kept.
    mark: String,
    _place: tempfile::TempDir,
    meeting: UnixListener,
}

fn start(name: &str) -> Group {
    let place = tempfile::tempdir().expect("a directory");
    let meeting = place.path().join("meeting");
    let mut run = Mishap::new("shares").image(&vec![0; 1 << 20]);
    run.command.args(["--engine", "libvirt", "--group", name]).env("MISHAP_MEETING", &meeting);
    let meeting = UnixListener::bind(meeting).expect("a socket");
    let mark = format!("TMPDIR={}", run.path("tmp").display());
    let child = run.command.spawn().expect("the program starts");
    Group { name: name.to_owned(), run, child, mark, _place: place, meeting }
}

impl Group {
    /// Its processes of this name.
    fn processes(&self, name: &str) -> Vec<u32> {
        let is_one = |pid: &u32| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim() == name
        };
        marked(&self.mark, 0).into_iter().filter(is_one).collect()
    }

    fn only(&self, name: &str) -> u32 {
        let all = self.processes(name);
        assert_eq!(all.len(), 1, "processes called {name}: {all:?}");
        all[0]
    }

    /// Waits for the function, which goes on when it is told to.
    fn meets(&self) -> UnixStream {
        let (mut stream, _) = self.meeting.accept().expect("a function");
        stream.set_nonblocking(true).expect("a socket");
        assert!(stream.read(&mut [0]).is_err(), "it does not stay");
        stream
    }

    /// What virsh prints about it.
    fn virsh(&self, words: &[&str]) -> String {
        let output = Command::new(program())
            .args(["virsh", "--group", &self.name])
            .args(words)
            .env("MISHAP", "shares")
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait(self) -> crate::support::Ran {
        let Self { run, child, mark, .. } = self;
        let pid = child.id();
        assert!(ends_within(&child, LONG), "it does not end");
        let ran = run.wait(child);
        assert_nothing_runs(&mark, pid);
        ran
    }
}

/// One that has ended meanwhile does not hear it.
fn go_on(mut function: UnixStream) {
    let _ = function.write_all(&[1]);
}

#[test]
fn virsh_sees_a_group_and_its_daemon_may_be_killed() {
    let group = start("virsh");
    let stays = group.meets();
    assert_eq!(group.virsh(&["--", "list", "--name"]), "a");
    assert_eq!(group.virsh(&["domstate", "a"]), "running");
    let uri = group.virsh(&["--uri"]);
    assert!(uri.starts_with("qemu:///session?socket=/proc/") && uri.ends_with("/libvirt-sock"), "{uri}");
    let qemu = group.only("qemu-system-x86");
    signal_to(group.only("libvirtd"), Signal::KILL);
    assert_eq!(group.only("qemu-system-x86"), qemu, "the VM ended with the daemon");
    // The function pulls the plug, and starts the VM anew.
    go_on(stays);
    let ran = group.wait();
    ran.assert_code(PASSED);
    let log = std::fs::read_to_string(ran.path("out/test.log")).expect("a log");
    assert!(log.contains("libvirt's daemon has ended, and is started again"), "{log}");
}

#[test]
fn a_vm_that_is_killed_behind_its_back_is_told_with_the_signal() {
    let group = start("behind");
    let stays = group.meets();
    signal_to(group.only("qemu-system-x86"), Signal::KILL);
    wait_for_text(&group.child, &group.run.path("stderr"), "VM a: it is off", LONG);
    go_on(stays);
    let ran = group.wait();
    // The function finds it off, and starts it.
    ran.assert_code(PASSED);
    let log = std::fs::read_to_string(ran.path("out/test.log")).expect("a log");
    assert!(log.contains("its machine ended unexpectedly (signal 9)"), "{log}");
}

#[test]
fn whatever_is_killed_nothing_is_left() {
    let mut random_state = seed();
    for _ in 0..ROUNDS {
        let group = start("rounds");
        let delay = Duration::from_millis(random(&mut random_state) % KILLS);
        assert!(!ends_within(&group.child, delay), "it ended before it was to");
        // The program, the owner, the daemon, the holder, virsh, QEMU, the router daemon, the function.
        let pids = marked(&group.mark, 0);
        let one = usize::try_from(random(&mut random_state)).expect("64 bits") % pids.len();
        signal_to(pids[one], Signal::KILL);
        // The function goes on when it comes, and nobody waits for it any more when it does not.
        let accepting = std::thread::spawn({
            let meeting = group.meeting.try_clone().expect("a socket");
            let pid = Pid::from_raw(group.child.id().cast_signed()).expect("a number");
            let ended = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
            move || {
                let mut wait = [PollFd::new(&meeting, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
                while poll(&mut wait, None).is_ok() && wait[1].revents().is_empty() {
                    go_on(meeting.accept().expect("a function").0);
                }
            }
        });
        group.wait();
        accepting.join().expect("it does not panic");
    }
}

#[test]
fn what_the_engine_cannot_do_is_said_before_anything_starts() {
    let mut run = Mishap::new("shares").image(&vec![0; 1 << 20]);
    run.command.args(["--engine", "libvirt", "--freeze-on-failure"]);
    let ran = run.run();
    ran.assert_code(USAGE).assert_told(&["--freeze-on-failure", "the engine is libvirt"], "--engine qemu");
    assert_eq!(ran.cached_images(), 0);
    let mut run = Mishap::new("freezes").image(&vec![0; 1 << 20]);
    run.command.args(["--engine", "libvirt"]);
    let ran = run.run();
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let reason = "forked::one skipped: it needs a fork of the testnet: the engine is libvirt";
    assert!(said.contains(reason), "{said}");
    assert_ne!(ran.status.code(), Some(FAILED), "{said}");
}

#[test]
fn an_engine_that_does_not_exist_is_a_mistake_in_the_command_line() {
    let mut run = Mishap::new("shares").image(&vec![0; 1 << 20]);
    run.command.args(["--engine", "xen"]);
    let ran = run.run();
    assert!(ran.stderr.contains("[possible values: qemu, libvirt, simulated]"), "{}", ran.stderr);
}
