//! The QMP client against a real QEMU, which gets its end of a socket pair as an open file.
//!
//! These tests need `qemu-system-x86_64`; no guest runs.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use command_fds::CommandFdExt as _;
use command_fds::FdMapping;
use steading_vm::qmp::{Qmp, QmpDriver, QmpError, QmpErrorClass, QmpEvent, QmpEvents, RunState, StopCause};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    child: Child,
    qmp: Qmp,
    events: QmpEvents,
    connection: JoinSet<Result<(), QmpError>>,
}

fn spawn(arguments: &[&str]) -> (Child, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let far: OwnedFd = far.into_std().expect("a socket").into();
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-S", "-display", "none", "-m", "32"])
        .args(["-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.fd_mappings(vec![FdMapping { parent_fd: far, child_fd: 3 }]).expect("one mapping");
    let child = command.spawn().expect("qemu-system-x86_64 is installed (apt-get install qemu-system-x86)");
    // With the command goes our copy of QEMU's end: the only one left is QEMU's.
    drop(command);
    (child, near)
}

async fn start(arguments: &[&str]) -> Machine {
    let (child, near) = spawn(arguments);
    let (qmp, driver, events): (Qmp, QmpDriver, QmpEvents) =
        soon(Qmp::connect(near)).await.expect("a greeting");
    let mut connection = JoinSet::new();
    connection.spawn(driver.run());
    Machine { child, qmp, events, connection }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn a_real_machine_is_steered_over_a_socket_pair() {
    let Machine { mut child, qmp, mut events, mut connection } =
        start(&["-machine", "q35", "-vga", "std"]).await;
    assert!(qmp.version().major >= 7, "{}", qmp.version());
    assert_eq!(qmp.query_version().await.expect("a version"), *qmp.version());
    assert_eq!(qmp.query_status().await.expect("a status").status, RunState::Prelaunch);
    qmp.cont().await.expect("runs");
    assert_eq!(soon(events.recv()).await.expect("an event").event, QmpEvent::Resume);
    qmp.stop().await.expect("stopped");
    let stopped = soon(events.recv()).await.expect("an event");
    assert!(stopped.event == QmpEvent::Stop && stopped.time.is_some());
    let status = qmp.query_status().await.expect("a status");
    assert!(!status.running && status.status == RunState::Paused);
    qmp.system_reset().await.expect("reset");
    let reset = QmpEvent::Reset { guest: false, reason: StopCause::HostReset };
    assert_eq!(soon(events.recv()).await.expect("an event").event, reset);
    qmp.system_powerdown().await.expect("pressed");

    let directory = tempfile::tempdir().expect("a directory");
    let picture = camino::Utf8Path::from_path(directory.path()).expect("UTF-8").join("screen.png");
    qmp.screendump(&picture).await.expect("a picture");
    assert!(fs_err::read(&picture).expect("a file").starts_with(b"\x89PNG"));

    qmp.quit().await.expect("quits");
    assert!(soon(child.wait()).await.expect("waited").success());
    assert!(soon(connection.join_next()).await.expect("a task").expect("no panic").is_ok());
    let mut last = None;
    while let Some(event) = soon(events.recv()).await {
        last = Some(event.event);
    }
    assert_eq!(last, Some(QmpEvent::Shutdown { guest: false, reason: StopCause::HostQuit }));
}

#[tokio::test]
async fn what_a_real_qemu_refuses_is_an_error_with_its_words() {
    let Machine { qmp, child: _child, connection: _connection, .. } = start(&["-machine", "none"]).await;
    let error = qmp.screendump("/nonexistent/x.png".into()).await.expect_err("no screen");
    assert!(
        matches!(&error, QmpError::Command { class: QmpErrorClass::Generic, command, .. } if command == "screendump"),
        "{error}"
    );
    let error = qmp.execute("no-such-command", None).await.expect_err("refused");
    assert!(matches!(error, QmpError::Command { class: QmpErrorClass::CommandNotFound, .. }));
}

#[tokio::test]
async fn the_death_of_a_real_qemu_ends_all_waits() {
    let Machine { mut child, qmp, mut connection, .. } = start(&["-machine", "none"]).await;
    child.kill().await.expect("killed");
    assert!(soon(qmp.query_status()).await.expect_err("closed").is_closed());
    soon(qmp.closed()).await;
    assert!(soon(connection.join_next()).await.expect("a task").expect("no panic").is_ok());
}

#[tokio::test]
async fn a_real_qemu_that_refuses_its_command_line_is_told() {
    let (mut child, near) = spawn(&["-machine", "no-such-machine"]);
    let error = soon(Qmp::connect(near)).await.expect_err("no greeting");
    assert!(matches!(error, QmpError::NoGreeting), "{error}");
    assert!(!soon(child.wait()).await.expect("waited").success());
}
