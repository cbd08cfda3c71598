//! The follower against the real systemd-journal-gatewayd, on journals made for the test.
//!
//! It needs the Debian package systemd-journal-remote, and port 19531 on the loopback address. Where
//! its programs are not in `/lib/systemd`, `STEADING_SYSTEMD` says where they are.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use steading_logs::journal::{
    FollowEvent, Follower, FollowerOptions, GATEWAYD_PORT, LostReason, Power, StartAt,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("STEADING_SYSTEMD").unwrap_or_else(|| "/lib/systemd".into());
    Path::new(&directory).join(name)
}

/// A gatewayd that is killed when the test ends.
struct Gatewayd(Child);

impl Gatewayd {
    fn start(journals: &Path) -> Self {
        let mut command = Command::new(program("systemd-journal-gatewayd"));
        let child =
            command.arg("-D").arg(journals).stderr(Stdio::null()).spawn().expect("gatewayd is installed");
        Self(child)
    }
}

impl Drop for Gatewayd {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("waited");
    }
}

/// Appends entries `<word>0`, `<word>1`, … of one boot to a journal, as a guest's journald would.
fn append(journal: &Path, boot: &str, word: &str, from: u64, count: u64) {
    let mut export = String::new();
    for number in from..from + count {
        let realtime = 1_700_000_000_000_000 + number * 1_000_000;
        write!(
            export,
            "__REALTIME_TIMESTAMP={realtime}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot}\n\
             _MACHINE_ID=11111111111111111111111111111111\nMESSAGE={word}{number}\n\n",
            number * 1_000_000
        )
        .expect("a string takes all");
    }
    let mut remote = Command::new(program("systemd-journal-remote"));
    remote.arg("-o").arg(journal).arg("-").stdin(Stdio::piped()).stderr(Stdio::null());
    let mut remote = remote.spawn().expect("systemd-journal-remote is installed");
    remote.stdin.take().expect("a pipe").write_all(export.as_bytes()).expect("written");
    assert!(remote.wait().expect("waited").success());
}

async fn messages(events: &mut mpsc::Receiver<FollowEvent>, count: usize) -> (Vec<String>, Vec<LostReason>) {
    let (mut messages, mut lost) = (Vec::new(), Vec::new());
    while messages.len() < count {
        match timeout(PATIENCE, events.recv()).await.expect("in time").expect("it runs") {
            FollowEvent::Entry(entry) => messages.push(entry.message),
            FollowEvent::Lost { reason } => lost.push(reason),
            FollowEvent::Reached | FollowEvent::Connected { .. } | FollowEvent::Disconnected { .. } => {}
        }
    }
    (messages, lost)
}

#[tokio::test]
#[ignore = "needs systemd-journal-gatewayd and port 19531"]
async fn the_real_gatewayd_is_followed_over_reboots_and_a_lost_journal() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = directory.path().join("system.journal");
    let this_boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let this_boot = this_boot.trim().replace('-', "");
    let boot = "a".repeat(32);
    append(&journal, &boot, "a", 0, 3);

    let gatewayd = Gatewayd::start(directory.path());
    let (_power, power) = watch::channel(Power::On { start: 1 });
    let (sender, mut events) = mpsc::channel(4);
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, GATEWAYD_PORT));
    let options = FollowerOptions {
        start: StartAt::Beginning,
        resume_limit: Duration::from_secs(2),
        ..FollowerOptions::new(server)
    };
    let cancel = CancellationToken::new();
    let follower = tokio::spawn(Follower::new(options, power, sender).run(cancel.clone()));
    assert_eq!(messages(&mut events, 3).await, (vec!["a0".into(), "a1".into(), "a2".into()], vec![]));

    // Live, then while nobody reads, then over two of the guest's boots.
    append(&journal, &boot, "live", 3, 1);
    assert_eq!(messages(&mut events, 1).await, (vec!["live3".into()], vec![]));
    drop(gatewayd);
    append(&journal, &boot, "down", 4, 1);
    append(&journal, &"b".repeat(32), "next", 5, 1);
    let gatewayd = Gatewayd::start(directory.path());
    assert_eq!(messages(&mut events, 2).await, (vec!["down4".into(), "next5".into()], vec![]));

    // The disk was reset: there is but the journal of the boot that runs now.
    drop(gatewayd);
    fs_err::remove_file(&journal).expect("removed");
    append(&journal, &this_boot, "anew", 0, 2);
    let gatewayd = Gatewayd::start(directory.path());
    let lost = vec![LostReason::CursorGone];
    assert_eq!(messages(&mut events, 2).await, (vec!["anew0".into(), "anew1".into()], lost));

    cancel.cancel();
    let position = timeout(PATIENCE, follower).await.expect("in time").expect("no panic");
    assert!(position.is_some());
    drop(gatewayd);
}
