//! The file server of a group, and addresses to speak from.

use std::net::Ipv6Addr;

use steading_api::{FileFaultRequest, ProcessEvent};
use steading_plan::{FileFault, FileSource, Sha256, Testnet};

use crate::Case;
use crate::support::{Group, Outcome, Ran};

pub(crate) const CASES: &[Case] = &[
    ("a_file_is_served_in_the_group_under_a_url_of_its_digest", served_by_digest),
    ("accesses_and_faults_of_the_file_server_are_in_the_log", accesses_are_logged),
    ("what_is_no_file_is_refused_and_what_vanished_is_told", bad_files),
    ("faults_of_the_file_server_are_numbered_with_those_of_the_network_and_end_with_their_program", faults),
    ("the_driver_has_an_address_that_was_asked_for", further_source),
];

/// A group that serves a file.
fn group(content: &[u8]) -> Group {
    Group::up("files", |dirs| {
        fs_err::write(dirs.join("update.img"), content).expect("write");
        Testnet::new()
    })
    .serving("update.img")
}

fn curl(group: &Group, words: &[&str]) -> Ran {
    group.run(&[&["curl", "-sS", "--max-time", "20"], words].concat())
}

fn served_by_digest() -> Outcome {
    let group = group(b"0123456789");
    let file = group.wait_for(group.client.file("update.img")).expect("it is served");
    let sha256 = Sha256::of("0123456789");
    assert_eq!((file.sha256, file.size), (sha256, 10));
    assert_eq!(file.url, format!("http://[{}]:8080/{sha256}", group.plan.addresses.files));
    for url in [&file.url, &file.named_url] {
        assert_eq!(curl(&group, &["-f", "-r", "2-4", url]).lines, ["234"]);
    }
    let by_digest = group.wait_for(group.client.file(&sha256.to_string())).expect("it is served");
    assert_eq!(by_digest, file);
    group.wait_for(group.client.remove_file("update.img")).expect("it is removed");
    assert_eq!(curl(&group, &["-f", &file.url]).status, Some(22), "that of an HTTP error");
    group.tear_down();
    Outcome::Passed
}

fn accesses_are_logged() -> Outcome {
    let group = group(b"0123456789");
    let url = group.wait_for(group.client.file("update.img")).expect("it is served").url;
    let mut records = group.wait_for(group.client.records()).expect("records");
    let fault = FileFaultRequest { fault: FileFault::cut_after(4), pid: None };
    group.wait_for(group.client.begin_file_fault(&fault)).expect("a fault");
    assert_eq!(curl(&group, &[&url]).status, Some(18), "that of a transfer that is cut");
    group.wait_for(async {
        let mut began = false;
        while let Some(record) = records.next().await.expect("a record") {
            began |= record["fault"]["began"]["id"] == 1;
            let access = &record["access"];
            if access.is_object() {
                assert!(began, "the fault is told first");
                let found = (&access["file"], &access["status"], &access["announced"], &access["sent"]);
                assert_eq!(found, (&"update.img".into(), &200.into(), &10.into(), &4.into()));
                assert_eq!(access["faults"], serde_json::json!([1]));
                return;
            }
        }
        panic!("no access is told");
    });
    group.tear_down();
    Outcome::Passed
}

fn bad_files() -> Outcome {
    let group = group(b"0123456789");
    let refused = |source: &FileSource| {
        let added = group.wait_for(group.client.add_file(source));
        added.expect_err("it is no file").to_string()
    };
    assert!(refused(&FileSource::new("/")).contains("hint:"));
    assert!(refused(&FileSource::new("/proc")).contains("/proc is no regular file"));
    assert!(refused(&FileSource::new("/nowhere/f")).contains("cannot read /nowhere/f"));
    let path = group.path("update.img");
    let said = refused(&FileSource::new(&*path).sha256(Sha256::of("another")));
    assert!(said.contains(&Sha256::of("another").to_string()), "{said}");
    fs_err::remove_file(&path).expect("remove");
    let said = group.wait_for(group.client.file("update.img")).expect_err("it is gone").to_string();
    assert!(said.contains("has vanished") && said.contains("hint:"), "{said}");
    let said = group.wait_for(group.client.file("updat.img")).expect_err("there is none").to_string();
    assert!(said.contains("there are: update.img"), "{said}");
    group.tear_down();
    Outcome::Passed
}

fn faults() -> Outcome {
    let group = group(b"0123456789");
    let url = group.wait_for(group.client.file("update.img")).expect("it is served").url;
    let refused = |fault| {
        let request = FileFaultRequest { fault, pid: None };
        group.wait_for(group.client.begin_file_fault(&request)).expect_err("it makes no sense").to_string()
    };
    assert!(refused(FileFault::status(200)).contains("no error"));
    assert!(refused(FileFault::corrupt().of("another")).contains("there are: update.img"));
    group.wait_for(async {
        let spec = crate::support::spec(&["sleep", "1001"]);
        let mut events = group.client.start_process(&spec).await.expect("a program");
        let Some(ProcessEvent::Started { pid }) = events.next().await.expect("an event") else {
            panic!("it has not started")
        };
        for fault in [FileFault::refuse(), FileFault::status(503)] {
            let request = FileFaultRequest { fault, pid: Some(pid) };
            let begun = group.client.begin_file_fault(&request).await.expect("a fault");
            assert_eq!(begun.function.as_deref(), Some("program"));
        }
        let refused = group.ran(&["curl", "-sS", &url]).await;
        assert_eq!(refused.status, Some(7), "that of a connection that is refused: {refused:?}");
        group.client.keep_fault(2).await.expect("it is kept");
        group.client.end_process(pid).await.expect("it is ended");
        while let Some(event) = events.next().await.expect("an event") {
            if matches!(event, ProcessEvent::Ended { .. }) {
                break;
            }
        }
        let left = group.client.file_faults().await.expect("faults");
        assert_eq!(left.iter().map(|fault| fault.id).collect::<Vec<_>>(), [2]);
        let answered = group.ran(&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]).await;
        assert_eq!(answered.lines, ["503"]);
        group.client.undo_fault(2).await.expect("it is undone");
        assert!(group.client.undo_fault(2).await.is_err());
    });
    assert_eq!(curl(&group, &["-f", &url]).lines, ["0123456789"]);
    group.tear_down();
    Outcome::Passed
}

fn further_source() -> Outcome {
    let group = group(b"0123456789");
    let url = group.wait_for(group.client.file("update.img")).expect("it is served").url;
    let source: Ipv6Addr = "2001:db8:77::1".parse().expect("an address");
    let from = |source: Ipv6Addr| curl(&group, &["-f", "--interface", &source.to_string(), &url]);
    assert_ne!(from(source).status, Some(0), "nobody has the address yet");
    for _ in 0..2 {
        group.wait_for(group.client.add_source(source)).expect("the driver has it");
    }
    assert_eq!(from(source).lines, ["0123456789"]);
    let inside = Ipv6Addr::from(u128::from(group.plan.addresses.gateway) + 6);
    let refused = group.wait_for(group.client.add_source(inside)).expect_err("it is a VM's").to_string();
    assert!(refused.contains("the VMs' own") && refused.contains("hint:"), "{refused}");
    group.tear_down();
    Outcome::Passed
}
