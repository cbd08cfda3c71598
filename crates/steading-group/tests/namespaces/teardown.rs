//! What is left of a group when one of its processes is killed, at any time: nothing.

use std::time::Duration;

use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Kind, Outcome, Runner, Seed, guest_kernel, kill};

pub(crate) const CASES: &[Case] = &[
    ("a_runner_killed_at_spawn_leaves_nothing", a_runner_killed_at_spawn),
    ("a_runner_killed_when_ready_leaves_nothing", a_runner_killed_when_ready),
    ("a_runner_killed_while_a_vm_runs_leaves_nothing", a_runner_killed_while_a_vm_runs),
    ("a_runner_killed_at_a_random_time_leaves_nothing", a_runner_killed_at_a_random_time),
    ("a_killed_owner_leaves_nothing_and_is_noticed", a_killed_owner),
    ("a_killed_router_daemon_is_logged_and_the_group_goes_on", a_killed_router_daemon),
];

/// How often the runner is killed at spawn and at random times.
const ROUNDS: usize = 10;

fn a_runner_killed_at_spawn() -> Outcome {
    for _ in 0..ROUNDS {
        Runner::spawn("killed", Kind::Empty).kill_after(Duration::ZERO);
    }
    Outcome::Passed
}

fn a_runner_killed_when_ready() -> Outcome {
    let mut runner = Runner::spawn("killed", Kind::Empty);
    runner.wait_until_ready();
    runner.kill_after(Duration::ZERO);
    Outcome::Passed
}

fn a_runner_killed_while_a_vm_runs() -> Outcome {
    if let Err(reason) = guest_kernel() {
        return Outcome::Ignored(reason);
    }
    let mut runner = Runner::spawn("killed", Kind::Machine);
    runner.wait_until_ready();
    runner.traces.only("vm-doomed");
    runner.kill_after(Duration::ZERO);
    Outcome::Passed
}

fn a_runner_killed_at_a_random_time() -> Outcome {
    let mut seed = Seed::from_environment();
    println!("STEADING_SEED={seed}");
    let kinds = if guest_kernel().is_ok() { [Kind::Empty, Kind::Machine] } else { [Kind::Empty; 2] };
    for (_, kind) in (0..ROUNDS).zip(kinds.into_iter().cycle()) {
        // An empty group is up sooner than this, and a kernel is about to boot.
        let latest = if kind == Kind::Empty { 60_000 } else { 400_000 };
        let delay = Duration::from_micros(seed.below(latest));
        println!("{kind:?}, killed after {delay:?}");
        Runner::spawn("killed", kind).kill_after(delay);
    }
    Outcome::Passed
}

fn a_killed_owner() -> Outcome {
    let kind = if guest_kernel().is_ok() { Kind::Machine } else { Kind::Empty };
    let mut runner = Runner::spawn("killed", kind);
    runner.wait_until_ready();
    kill(runner.owner);
    assert_eq!(runner.hear(), "ended: None");
    runner.assert_gone();
    Outcome::Passed
}

fn a_killed_router_daemon() -> Outcome {
    let group = Group::up("killed", |_| Testnet::new());
    group.wait_for(async {
        let mut records = group.client.records().await.expect("the log");
        kill(group.traces.only("dnsmasq").pid);
        while let Some(record) = records.next().await.expect("a record") {
            if record.to_string().contains("the router daemon has ended (Signal(9))") {
                return;
            }
        }
        panic!("the log ended, and did not tell");
    });
    group.wait_for(group.client.status()).expect("the group goes on");
    group.tear_down();
    Outcome::Passed
}
