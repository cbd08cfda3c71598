//! The agent's client against the real qemu-ga, which runs on this host instead of in a guest.
//!
//! It needs the Debian package qemu-guest-agent. `STEADING_QEMU_GA` says where qemu-ga is, if it is
//! not on PATH. Nothing is asked that would change the host.

use std::process::Stdio;
use std::time::Duration;

use steading_vm::agent::{AgentCommand, AgentError, GuestAgent};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs qemu-ga"]
async fn the_real_agent_runs_programs_and_copies_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| camino::Utf8Path::from_path(directory.path()).expect("UTF-8").join(name);
    let program = std::env::var_os("STEADING_QEMU_GA").unwrap_or_else(|| "qemu-ga".into());
    let _agent = Command::new(program)
        .args(["--method", "unix-listen", "--path", path("socket").as_str(), "--statedir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("qemu-ga is installed");
    let stream = timeout(PATIENCE, async {
        loop {
            match UnixStream::connect(path("socket")).await {
                Ok(stream) => return stream,
                // It gives no sign when it listens.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let agent = GuestAgent::new(stream.await.expect("it listens"));

    agent.ping(PATIENCE).await.expect("an answer");
    let command =
        AgentCommand { input: b"from input".to_vec(), ..AgentCommand::shell("cat; echo err >&2; exit 3") };
    let output = agent.run(&command, PATIENCE, PATIENCE).await.expect("it ended");
    assert_eq!((output.status, output.stdout.as_slice()), (Some(3), &b"from input"[..]));
    assert_eq!(output.stderr, b"err\n");
    let output = agent.run(&AgentCommand::shell("kill -9 $$"), PATIENCE, PATIENCE).await.expect("it ended");
    assert_eq!((output.status, output.signal), (None, Some(9)));

    let content: Vec<u8> = (0..=250_u8).cycle().take(1_000_000).collect();
    agent.copy_to(&mut content.as_slice(), path("file").as_str(), PATIENCE).await.expect("sent");
    assert!(fs_err::read(path("file")).expect("a file") == content);
    let mut back = Vec::new();
    agent.copy_from(path("file").as_str(), &mut back, PATIENCE).await.expect("received");
    assert!(back == content);

    let interfaces = agent.network_interfaces(PATIENCE).await.expect("interfaces");
    let local = interfaces.iter().find(|interface| interface.name == "lo").expect("lo");
    assert!(local.addresses.iter().any(|address| address.address.is_loopback()));

    let error = agent.execute("guest-nonsense", None, PATIENCE).await.expect_err("refused");
    assert!(matches!(error, AgentError::Command { .. }), "{error}");
    agent.ping(PATIENCE).await.expect("still in step");
}
