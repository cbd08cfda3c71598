//! Real machines, as small as they come: a kernel without a root file system.

use steading_api::{ConsoleFrom, ConsoleWait, FailureKind, VmState, VmVerb};
use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Outcome, guest_kernel, panicking_vm};
use crate::traces::kill;

pub(crate) const CASES: &[Case] = &[
    ("a_kernel_that_panics_ends_waits_with_its_last_words", a_kernel_that_panics),
    ("a_killed_qemu_is_an_off_vm_with_a_reason", a_killed_qemu),
    ("a_vm_started_again_is_in_its_second_boot", a_vm_started_again),
];

const VM: &str = "doomed";

fn up() -> Result<Group, Outcome> {
    let kernel = guest_kernel().map_err(Outcome::Ignored)?;
    Ok(Group::up("machines", |_| Testnet::new().vm(panicking_vm(kernel))))
}

fn look(pattern: &str, from: ConsoleFrom) -> ConsoleWait {
    ConsoleWait { pattern: pattern.to_owned(), from, limit_ms: 120_000 }
}

fn a_kernel_that_panics() -> Outcome {
    let group = match up() {
        Ok(group) => group,
        Err(outcome) => return outcome,
    };
    group.wait_for(async {
        let found = group.client.wait_for_console(VM, &look("Linux version [0-9]", ConsoleFrom::Start)).await;
        assert!(found.expect("it boots").text.starts_with("Linux version "));
        let ended = group.client.ended(VM).await.expect("its end");
        assert_eq!(ended.reason, "its kernel panicked");
        let tells = ended.console.iter().any(|line| line.contains("Kernel panic - not syncing"));
        assert!(tells, "the last lines tell why: {:#?}", ended.console);
        let waited = group.client.wait_for_console(VM, &look("never said", ConsoleFrom::Start)).await;
        let error = waited.expect_err("it says no more");
        assert_eq!(error.kind(), Some(FailureKind::VmEnded), "{error}");
        assert!(error.to_string().contains("on its console: its kernel panicked\n"), "{error}");
        let status = group.client.vm(VM).await.expect("a status");
        assert_eq!((status.state, status.panicked), (VmState::Running, true), "it is left to be looked at");
    });
    group.tear_down();
    Outcome::Passed
}

fn a_killed_qemu() -> Outcome {
    let group = match up() {
        Ok(group) => group,
        Err(outcome) => return outcome,
    };
    kill(group.traces.only("vm-doomed").pid);
    group.wait_for(async {
        let ended = group.client.ended(VM).await.expect("its end");
        assert_eq!(ended.reason, "its machine ended unexpectedly (signal 9)");
        let status = group.client.status().await.expect("the group goes on");
        assert_eq!((status.vms[0].state, status.vms[0].pid), (VmState::Off, None));
        let waited = group.client.wait_for_console(VM, &look("never said", ConsoleFrom::Start)).await;
        let error = waited.expect_err("it is off");
        assert_eq!(error.kind(), Some(FailureKind::VmEnded), "{error}");
    });
    group.tear_down();
    Outcome::Passed
}

fn a_vm_started_again() -> Outcome {
    let group = match up() {
        Ok(group) => group,
        Err(outcome) => return outcome,
    };
    group.wait_for(async {
        // With its end: half a line may have arrived, and a pattern is looked for at once.
        let version = |from| look("Linux version [0-9.]+-", from);
        let first = group.client.wait_for_console(VM, &version(ConsoleFrom::Boot)).await.expect("it boots");
        let off = group.client.act(VM, VmVerb::Kill).await.expect("it is killed");
        assert_eq!((off.state, off.boot, off.pid), (VmState::Off, 1, None));
        assert_eq!(off.ended.as_deref(), Some("power cut"));
        let on = group.client.act(VM, VmVerb::Start).await.expect("it is started");
        assert_eq!((on.state, on.boot, on.ended), (VmState::Running, 2, None));
        let second = group.client.wait_for_console(VM, &version(ConsoleFrom::Boot)).await.expect("it boots");
        assert!(second.end > first.end, "one console, {} then {}", first.end, second.end);
        let again =
            group.client.wait_for_console(VM, &version(ConsoleFrom::Start)).await.expect("it is kept");
        assert_eq!(again.end, first.end);
        let next =
            group.client.wait_for_console(VM, &version(ConsoleFrom::At(first.end))).await.expect("more");
        assert_eq!(next.end, second.end);
    });
    group.tear_down();
    Outcome::Passed
}
