//! Guests that come to nothing, and guests of several groups at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::net::UnixListener;
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::process::Signal;
use serde_json::Value;
use steading_testing::process::signal_to;

use crate::support::{FAILED, Mishap, PASSED, guest, program};

#[test]
fn a_wait_for_a_guest_that_never_boots_ends_in_time_to_say_what_it_saw() {
    let ran = Mishap::new("never-boots").image(&vec![0; 1 << 20]).run();
    ran.assert_code(FAILED);
    let said = &ran.stdout;
    assert!(said.contains("waits returned an error"), "it ends before its limit of 20 s: {said}");
    assert!(
        said.contains("VM a: waiting for its SSH server: not within 16 s, the time limit of its function"),
        "{said}"
    );
    assert!(said.contains("the last lines of its console:"), "{said}");
    assert!(said.contains("No bootable device."), "the firmware's last words: {said}");
}

#[test]
fn a_guest_that_hung_in_silence_was_waited_for_without_a_word() {
    let ran = Mishap::new("hangs").run();
    ran.assert_code(FAILED);
    let spins = "its guest seems to hang: no console output for 60 s while its CPU is busy, after \"Booting from Hard Disk";
    assert!(ran.stderr.contains(&format!("VM spins: {spins}")), "{}", ran.stderr);
    assert!(ran.stdout.contains(spins), "the wait says it, too: {}", ran.stdout);
    let idles = "VM idles: its guest seems not to boot: no console output for 30 s, and its CPU is idle";
    assert!(ran.stderr.contains(idles), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: check that it has enough memory"), "{}", ran.stderr);
}

#[test]
fn a_test_that_fails_has_a_picture_of_each_display_in_its_report() {
    let ran = Mishap::new("pictured").image(&vec![0; 1 << 20]).run();
    ran.assert_code(FAILED);
    let picture = std::fs::read(ran.path("out/pictures/fails.a.png")).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG\r\n"), "{:?}", &picture[..8.min(picture.len())]);
    let page = std::fs::read_to_string(ran.path("out/report.html")).expect("a page");
    assert!(page.contains(r#""pictures":[["fails.a","iVBORw0KGgo"#), "the page has no picture");
}

#[test]
fn waits_for_a_guest_that_powers_off_end_at_once_with_its_last_words() {
    guest();
    let ran = Mishap::new("powers-off").with_the_hosts_cache().run();
    ran.assert_code(FAILED);
    for error in [
        "VM a: waiting for its SSH server: the guest powered off",
        "VM a: waiting for \"never said\" on its console: it is off: the guest powered off",
    ] {
        assert!(ran.stdout.contains(error), "{error:?} is not in {}", ran.stdout);
    }
    assert_eq!(ran.stdout.matches("the last lines of its console:").count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("reboot: Power down"), "{}", ran.stdout);
}

#[test]
fn waits_for_a_guest_whose_kernel_panics_end_at_once_with_its_last_words() {
    guest();
    let ran = Mishap::new("panics").with_the_hosts_cache().run();
    ran.assert_code(FAILED);
    for what in ["waiting for its SSH server", "waiting for \"never said\" on its console"] {
        let error = format!("VM a: {what}: its kernel panicked");
        assert!(ran.stdout.contains(&error), "{error:?} is not in {}", ran.stdout);
    }
    assert!(ran.stdout.contains("Kernel panic - not syncing"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("the last lines of its console:").count(), 2, "{}", ran.stdout);
}

const GROUPS: [&str; 3] = ["east", "north", "west"];

#[test]
fn three_groups_of_two_vms_do_not_disturb_each_other() {
    guest();
    let addresses = GROUPS.map(addresses);
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("meeting");
    let meeting = UnixListener::bind(&socket).expect("a socket");
    // It ends with the test, if not before: whoever is missing is told by the run that misses it.
    std::thread::spawn(move || hold_meetings(&meeting));
    let (sender, ends) = mpsc::channel();
    let mut running = BTreeMap::new();
    for (own, group) in GROUPS.into_iter().enumerate() {
        let others = addresses.iter().enumerate().filter(|(other, _)| *other != own);
        let foreign: Vec<String> = others.flat_map(|(_, vms)| vms.iter().map(Ipv6Addr::to_string)).collect();
        assert_eq!(foreign.len(), 4, "{addresses:?}");
        let mut run = Mishap::new("neighbours").with_the_hosts_cache();
        run.command.args(["--group", group]).env("MISHAP_FOREIGN", foreign.join(","));
        run.command.env("MISHAP_MEETING", &socket);
        let child = run.command.spawn().expect("the program starts");
        running.insert(group, child.id());
        let sender = sender.clone();
        std::thread::spawn(move || {
            // An error here is a panic that is told already, so nothing is sent.
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run.wait(child)));
            sender.send((group, ran)).expect("the test waits");
        });
    }
    let mut failures = String::new();
    while !running.is_empty() {
        let (group, ran) = ends.recv().expect("each tells its end");
        running.remove(group);
        match ran {
            Ok(ran) if ran.status.code() == Some(PASSED) && ran.stdout.ends_with(ONE_PASSED) => {}
            Ok(ran) => {
                let _ = writeln!(failures, "{group}: {}\n{}\n{}", ran.status, ran.stdout, ran.stderr);
            }
            Err(_) => failures.push_str("one was not in order, see above\n"),
        }
        if !failures.is_empty() {
            // The others would wait for it.
            for &pid in running.values() {
                signal_to(pid, Signal::INT);
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The last line of a run of one test.
const ONE_PASSED: &str = "\n1 passed, 0 failed, 0 skipped\n";

/// Lets groups go on when all are there, twice.
fn hold_meetings(listener: &UnixListener) {
    loop {
        let mut guests: Vec<_> = GROUPS.iter().map(|_| listener.accept().expect("a group").0).collect();
        for guest in &mut guests {
            guest.read_exact(&mut [0]).expect("it says that it is there");
        }
        for guest in &mut guests {
            // It may have been interrupted meanwhile.
            let _ = guest.write_all(&[1]);
        }
    }
}

/// The addresses of a group's VMs, as planned.
fn addresses(group: &str) -> Vec<Ipv6Addr> {
    let mut command = Command::new(program());
    command.args(["plan", "--group", group]).env("MISHAP", "neighbours").env("STEADING_ACCEL", "tcg");
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let vms = plan["vms"].as_array().expect("VMs").iter();
    vms.map(|vm| vm["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")).collect()
}
