//! What a driver on another machine would ask: nothing but the control API is used here.

use steading_api::{FailureKind, FreezeRequest};
use steading_plan::{Sha256, Testnet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Group, Outcome, stopped_vm};

pub(crate) const CASES: &[crate::Case] = &[
    ("remote::a_log_stream_is_resumed_by_its_offset", a_log_stream_is_resumed_by_its_offset),
    ("remote::an_offset_behind_the_end_is_refused", an_offset_behind_the_end_is_refused),
    (
        "remote::facts_files_and_frozen_groups_need_no_shared_directory",
        facts_files_and_frozen_groups_need_no_shared_directory,
    ),
    ("remote::a_guests_port_is_reached_through_the_owner", a_guests_port_is_reached_through_the_owner),
];

/// A server that gives back what it gets, at an address that it adds first: that of the VM, which is off.
const ECHO: &str = r#"
import socket, subprocess, sys
subprocess.run(["ip", "addr", "add", sys.argv[1] + "/128", "dev", "lo", "nodad"], check=True)
server = socket.create_server((sys.argv[1], 7), family=socket.AF_INET6)
print("it listens", flush=True)
connection, _ = server.accept()
while data := connection.recv(1000):
    connection.sendall(data.upper())
"#;

/// The log is read in two parts, the second from where the first broke off, to its very end.
fn a_log_stream_is_resumed_by_its_offset() -> Outcome {
    let group = Group::up("remote-log", |_| Testnet::new());
    let client = group.client.clone();
    let first = group.wait_for(async {
        let mut stream = client.log_from(0).await.expect("a log");
        stream.next().await.expect("bytes").expect("something was written")
    });
    let log = group.path("log/log.jsonl");
    let (cut, from) = (first.len() / 2, first.len() as u64 / 2);
    let rest = group.wait_for(async {
        let mut stream = client.log_from(from).await.expect("a log");
        client.tear_down().await.expect("it is torn down");
        let mut rest = Vec::new();
        while let Some(bytes) = stream.next().await.expect("it ends as a whole") {
            rest.extend_from_slice(&bytes);
        }
        rest
    });
    let whole = fs_err::read(&log).expect("the log");
    assert!(whole.ends_with(b"\n"), "its last line is whole");
    assert_eq!([&first[..cut], &rest].concat(), whole, "no byte is lost, none comes twice");
    group.ended();
    Outcome::Passed
}

/// A log has no bytes behind its end.
fn an_offset_behind_the_end_is_refused() -> Outcome {
    let group = Group::up("remote-offset", |_| Testnet::new());
    let refused = group.wait_for(group.client.log_from(1 << 40)).expect_err("there are no such bytes");
    assert_eq!(refused.kind(), Some(FailureKind::BadRequest), "{refused}");
    group.tear_down();
    Outcome::Passed
}

/// Facts, files and frozen groups come as bytes.
fn facts_files_and_frozen_groups_need_no_shared_directory() -> Outcome {
    let content = vec![b'x'; 300_000];
    let group = Group::up("remote-bytes", |dirs| {
        fs_err::write(dirs.join("served"), &content).expect("write");
        Testnet::new().vm(stopped_vm(dirs))
    });
    let group = group.serving("served");
    let facts = group.wait_for(group.client.facts()).expect("facts");
    assert_eq!(facts["group"], "remote-bytes");
    let read = |digest: Sha256| {
        group.wait_for(async {
            let mut stream = group.client.blob(&digest).await?;
            let mut read = Vec::new();
            while let Some(bytes) = stream.next().await? {
                read.extend_from_slice(&bytes);
            }
            Ok::<_, steading_api::ClientError>(read)
        })
    };
    assert_eq!(read(Sha256::of(&content)).expect("a file"), content);
    let refused = read(Sha256::of("another")).expect_err("there is no such file");
    assert_eq!(refused.kind(), Some(FailureKind::BadRequest), "{refused}");
    let archive = group.wait_for(async {
        let id = group.client.freeze(&FreezeRequest::default()).await.expect("a freeze").id;
        let mut stream = group.client.archive(&id, true).await.expect("an archive");
        let mut archive = Vec::new();
        while let Some(bytes) = stream.next().await.expect("bytes") {
            archive.extend_from_slice(&bytes);
        }
        archive
    });
    let file = group.path("frozen.steading");
    fs_err::write(&file, archive).expect("write");
    let opened = steading_group::stored::Archive::open(&file).expect("a whole archive");
    assert_eq!(opened.description().plan.group, group.plan.group);
    group.tear_down();
    Outcome::Passed
}

/// A connection to a guest's port goes through the owner.
fn a_guests_port_is_reached_through_the_owner() -> Outcome {
    let group = Group::up("remote-port", |dirs| Testnet::new().vm(stopped_vm(dirs)));
    let address = group.plan.vms[0].address.to_string();
    group.wait_for(async {
        let refused = group.client.connect("none", 7).await.expect_err("there is no such VM");
        assert_eq!(refused.kind(), Some(FailureKind::BadRequest), "{refused}");
        let spec = crate::support::spec(&["python3", "-c", ECHO, &address]);
        let mut events = group.client.start_process(&spec).await.expect("python3");
        while let Some(event) = events.next().await.expect("events") {
            if matches!(&event, steading_api::ProcessEvent::Line { text } if text == "it listens") {
                break;
            }
            assert!(!matches!(event, steading_api::ProcessEvent::Ended { .. }), "{event:?}");
        }
        let mut connection = group.client.connect("still", 7).await.expect("a connection");
        connection.write_all(b"hello").await.expect("sent");
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HELLO");
        connection.shutdown().await.expect("an end");
        assert_eq!(connection.read(&mut answer).await.expect("its end"), 0);
    });
    group.tear_down();
    Outcome::Passed
}
