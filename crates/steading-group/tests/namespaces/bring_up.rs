//! What comes up, and what is said when it cannot.

use std::os::unix::fs::symlink;

use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Kind, Outcome, Runner};

pub(crate) const CASES: &[Case] = &[
    ("an_empty_group_answers_and_is_torn_down", an_empty_group_answers_and_is_torn_down),
    ("two_groups_of_the_same_name_at_once_do_not_interfere", two_groups_of_the_same_name_at_once),
    ("a_missing_dnsmasq_is_told_with_its_package", a_missing_dnsmasq),
    ("a_missing_qemu_is_told_with_its_package", a_missing_qemu),
];

fn an_empty_group_answers_and_is_torn_down() -> Outcome {
    let group = Group::up("empty", |_| Testnet::new());
    let status = group.wait_for(group.client.status()).expect("a status");
    assert_eq!(status.plan, group.plan);
    assert!(status.vms.is_empty());
    assert_eq!(group.traces.only("st:empty").pid, group.owner());
    assert_eq!(group.traces.processes().len(), 2, "the owner and dnsmasq: {:?}", group.traces.processes());
    group.tear_down();
    Outcome::Passed
}

fn two_groups_of_the_same_name_at_once() -> Outcome {
    let mut one = Runner::spawn("twin", Kind::Empty);
    let mut other = Runner::spawn("twin", Kind::Empty);
    one.wait_until_ready();
    other.wait_until_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let plans = runtime.block_on(async {
        one.client().put_value("mine", &1.into()).await.expect("a value is kept");
        other.client().put_value("mine", &2.into()).await.expect("a value is kept");
        let value = one.client().value("mine").await.expect("an answer");
        assert_eq!(value, Some(1.into()));
        [one.client().status().await.expect("a status"), other.client().status().await.expect("a status")]
            .map(|status| status.plan)
    });
    assert_eq!(plans[0], plans[1]);
    let (client, traces) = (other.client(), other.traces.processes().len());
    one.kill_after(std::time::Duration::ZERO);
    assert_eq!(other.traces.processes().len(), traces, "the end of one took processes of the other");
    runtime.block_on(client.status()).expect("the other goes on");
    other.kill_after(std::time::Duration::ZERO);
    Outcome::Passed
}

fn a_missing_dnsmasq() -> Outcome {
    let programs = tempfile::tempdir().expect("a directory");
    let mut runner = Runner::spawn_with("bare", Kind::Empty, |command| {
        command.env("PATH", programs.path());
    });
    let error = runner.hear();
    assert!(error.contains("dnsmasq is not installed") && error.contains("dnsmasq-base"), "{error}");
    assert_eq!(runner.hear(), "ended: Some(1)");
    runner.assert_gone();
    Outcome::Passed
}

fn a_missing_qemu() -> Outcome {
    let programs = tempfile::tempdir().expect("a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(dnsmasq) =
        std::env::split_paths(&path).map(|dir| dir.join("dnsmasq")).find(|file| file.exists())
    else {
        return Outcome::Ignored("dnsmasq is not on PATH".to_owned());
    };
    symlink(dnsmasq, programs.path().join("dnsmasq")).expect("a link");
    let mut runner = Runner::spawn_with("bare", Kind::NoKernel, |command| {
        command.env("PATH", programs.path());
    });
    let error = runner.hear();
    assert!(error.contains("qemu-system-x86_64 is not installed"), "{error}");
    assert!(error.contains("apt-get install qemu-system-x86"), "{error}");
    assert_eq!(runner.hear(), "ended: Some(1)");
    runner.assert_gone();
    Outcome::Passed
}
