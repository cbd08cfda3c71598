//! What is left of a group when one of its processes is killed, at any time: nothing.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;
use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Kind, Outcome, Runner, Seed, Span, Victim, event_loop, guest_kernel};
use crate::traces::{Dirs, kill};

pub(crate) const CASES: &[Case] = &[
    ("what_is_left_is_found", what_is_left_is_found),
    ("a_runner_killed_at_spawn_leaves_nothing", a_runner_killed_at_spawn),
    ("a_runner_killed_when_ready_leaves_nothing", a_runner_killed_when_ready),
    ("a_runner_killed_while_a_vm_runs_leaves_nothing", a_runner_killed_while_a_vm_runs),
    ("a_killed_owner_leaves_nothing_and_is_noticed", a_killed_owner),
    ("a_killed_router_daemon_is_logged_and_the_group_goes_on", a_killed_router_daemon),
    ("a_runner_killed_while_a_program_runs_leaves_nothing", || at_work(Victim::Runner)),
    ("an_owner_killed_while_a_program_runs_leaves_nothing", || at_work(Victim::Owner)),
    ("a_router_daemon_killed_while_a_program_runs_leaves_nothing", || at_work(Victim::Router)),
    ("a_qemu_killed_while_a_program_runs_leaves_nothing", || at_work(Victim::Qemu)),
    ("a_runner_killed_during_teardown_leaves_nothing", || during_teardown(Victim::Runner)),
    ("an_owner_killed_during_teardown_leaves_nothing", || during_teardown(Victim::Owner)),
    ("a_router_daemon_killed_during_teardown_leaves_nothing", || during_teardown(Victim::Router)),
    ("a_qemu_killed_during_teardown_leaves_nothing", || during_teardown(Victim::Qemu)),
    ("a_runner_killed_at_a_random_time_leaves_nothing", || at_random(Victim::Runner)),
    ("an_owner_killed_at_a_random_time_leaves_nothing", || at_random(Victim::Owner)),
    ("a_router_daemon_killed_at_a_random_time_leaves_nothing", || at_random(Victim::Router)),
    ("a_qemu_killed_at_a_random_time_leaves_nothing", || at_random(Victim::Qemu)),
];

/// How often something is killed at spawn and at random times.
const ROUNDS: usize = 10;

/// With a VM where there is a kernel for one; without is a case too, but not for its QEMU.
fn kinds(victim: Victim) -> Result<[Kind; 2], Outcome> {
    match guest_kernel() {
        Ok(_) if victim == Victim::Qemu => Ok([Kind::Machine; 2]),
        Ok(_) => Ok([Kind::Empty, Kind::Machine]),
        Err(reason) if victim == Victim::Qemu => Err(Outcome::Ignored(reason)),
        Err(_) => Ok([Kind::Empty; 2]),
    }
}

/// The looks that the other cases rely on.
fn what_is_left_is_found() -> Outcome {
    let dirs = Dirs::new();
    assert!(dirs.left().is_empty(), "{:?}", dirs.left());
    let log = dirs.path().join("log/vms/a");
    fs_err::create_dir_all(&log).expect("a directory");
    fs_err::write(log.join("console.log"), "a log").expect("write");
    assert!(dirs.left().is_empty(), "logs may stay: {:?}", dirs.left());
    let elsewhere = std::env::temp_dir().join("elsewhere");
    let scratch = dirs.path().join("scratch/overlay").into_std_path_buf();
    let aside = log.join(".console.log.part").into_std_path_buf();
    let files = [elsewhere, scratch, aside];
    for file in &files {
        fs_err::write(file, "left").expect("write");
        let left = dirs.left();
        assert!(left.iter().any(|left| left.as_str().contains(&*file.to_string_lossy())), "{left:?}");
        fs_err::remove_file(file).expect("remove");
    }
    let path = dirs.path().join("control");
    let listener = UnixListener::bind(&path).expect("a socket");
    assert_eq!(dirs.left(), [format!("the socket {path}"), path.to_string()]);
    drop(listener);
    assert_eq!(dirs.left(), std::slice::from_ref(&path), "its file stays");
    fs_err::remove_file(path).expect("remove");
    assert!(dirs.left().is_empty(), "{:?}", dirs.left());
    Outcome::Passed
}

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

/// While a program runs, as a setup or a test function does.
fn at_work(victim: Victim) -> Outcome {
    let kinds = match kinds(victim) {
        Ok(kinds) => kinds,
        Err(outcome) => return outcome,
    };
    for kind in kinds {
        let mut runner = Runner::spawn("killed", kind);
        runner.wait_until_ready();
        let runtime = event_loop();
        let work = runtime.block_on(runner.set_to_work());
        assert_eq!(workers(&runner), 3, "all are at work: {:?}", runner.traces.processes());
        assert!(runner.kill(victim), "there is no {victim:?}: {:?}", runner.traces.processes());
        if matches!(victim, Victim::Router | Victim::Qemu) {
            let client = runner.client();
            runtime.block_on(client.status()).expect("the group goes on");
            assert_eq!(workers(&runner), 3, "the program goes on: {:?}", runner.traces.processes());
            runtime.block_on(client.tear_down()).expect("it is torn down");
            assert_eq!(runner.hear(), "ended: Some(0)");
        }
        drop(work);
        runner.assert_gone();
    }
    Outcome::Passed
}

/// How many processes there are of the program that is at work. One that is about to become
/// `sleep` is a `sh` or `setsid` yet.
fn workers(runner: &Runner) -> usize {
    let is_worker = |name: &str| ["sh", "setsid", "sleep"].contains(&name);
    runner.traces.processes().iter().filter(|process| is_worker(&process.name)).count()
}

/// After the teardown was asked for and before the owner has ended, with a program at work: at once,
/// by an owner that stands still meanwhile, and after random delays.
fn during_teardown(victim: Victim) -> Outcome {
    // The victims are there for about as long, in microseconds.
    let teardown = if matches!(victim, Victim::Router | Victim::Qemu) { 1_500 } else { 5_000 };
    let kinds = match kinds(victim) {
        Ok(kinds) => kinds,
        Err(outcome) => return outcome,
    };
    let runtime = event_loop();
    for kind in kinds {
        let mut runner = Runner::spawn("killed", kind);
        runner.wait_until_ready();
        let work = runtime.block_on(runner.set_to_work());
        runner.signal_owner(Signal::STOP);
        let asked = runner.ask_for_teardown();
        assert!(runner.kill(victim), "there is no {victim:?}: {:?}", runner.traces.processes());
        if matches!(victim, Victim::Router | Victim::Qemu) {
            runner.signal_owner(Signal::CONT);
            assert_eq!(runner.hear(), "ended: Some(0)");
        }
        drop((work, asked));
        runner.assert_gone();
    }
    let mut seed = Seed::from_environment();
    println!("STEADING_SEED={seed}");
    for (_, kind) in (0..ROUNDS).zip(kinds.into_iter().cycle()) {
        let delay = Duration::from_micros(seed.below(teardown));
        let mut runner = Runner::spawn("killed", kind);
        runner.wait_until_ready();
        let work = runtime.block_on(runner.set_to_work());
        let asked = runner.ask_for_teardown();
        let ended = runner.ends_within(delay);
        let killed = runner.kill(victim);
        println!("{kind:?}, {delay:?} after it was asked: had ended: {ended}, {victim:?} killed: {killed}");
        drop((work, asked));
        runner.assert_gone();
    }
    Outcome::Passed
}

/// At any time of a group's life: while it comes up, while a program runs, and while it is torn down.
fn at_random(victim: Victim) -> Outcome {
    let kinds = match kinds(victim) {
        Ok(kinds) => kinds,
        Err(outcome) => return outcome,
    };
    let mut seed = Seed::from_environment();
    println!("STEADING_SEED={seed}");
    for (_, kind) in (0..ROUNDS).zip(kinds.into_iter().cycle()) {
        // A little more than the whole life takes, in microseconds.
        let life = if kind == Kind::Empty { 120_000 } else { 300_000 };
        let delay = Duration::from_micros(seed.below(life));
        let mut runner = Runner::spawn_for(Span::Life, "killed", kind);
        let ended = runner.ends_within(delay);
        let killed = runner.kill(victim);
        println!("{kind:?} after {delay:?}: had ended: {ended}, {victim:?} killed: {killed}");
        runner.assert_gone();
    }
    Outcome::Passed
}
