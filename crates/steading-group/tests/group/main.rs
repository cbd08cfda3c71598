//! Groups in real namespaces, killed at every stage.
//!
//! A group's owner is cloned from a process with one thread, and a test runner has many. So each
//! case runs in a process of its own: this program, started again with the case's name.

mod cases;
mod fixture;
mod killing;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// The variable that names the case to run.
const CASE: &str = "STEADING_GROUP_CASE";

/// How long a case may take, in seconds; kernels boot in some of them, under emulation.
const LIMIT: &str = "120";

type Case = (&'static str, fn() -> Result<(), Failed>);

/// Cases that need a kernel to boot.
const WITH_KERNEL: &[Case] = &[
    ("a_panicking_guest_is_told_with_its_console", cases::a_panicking_guest_is_told_with_its_console),
    ("a_vm_is_killed_and_started_again", cases::a_vm_is_killed_and_started_again),
    ("a_killed_qemu_is_told_and_the_group_lives", cases::a_killed_qemu_is_told_and_the_group_lives),
    (
        "a_runner_killed_with_vms_running_leaves_nothing",
        killing::a_runner_killed_with_vms_running_leaves_nothing,
    ),
];

const CASES: &[Case] = &[
    ("an_empty_group_answers_and_is_torn_down", cases::an_empty_group_answers_and_is_torn_down),
    ("the_network_is_as_planned", cases::the_network_is_as_planned),
    ("a_program_s_lines_and_end_are_told", cases::a_programs_lines_and_end_are_told),
    ("what_a_program_leaves_is_ended_and_named", cases::what_a_program_leaves_is_ended_and_named),
    ("a_program_is_ended_when_asked", cases::a_program_is_ended_when_asked),
    (
        "a_missing_router_daemon_is_named_with_its_package",
        cases::a_missing_router_daemon_is_named_with_its_package,
    ),
    ("a_killed_router_daemon_leaves_the_group_alive", cases::a_killed_router_daemon_leaves_the_group_alive),
    ("two_groups_of_one_name_do_not_meet", cases::two_groups_of_one_name_do_not_meet),
    ("a_killed_owner_leaves_nothing", killing::a_killed_owner_leaves_nothing),
    ("a_runner_killed_when_ready_leaves_nothing", killing::a_runner_killed_when_ready_leaves_nothing),
    ("a_runner_killed_at_any_moment_leaves_nothing", killing::a_runner_killed_at_any_moment_leaves_nothing),
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(CASE) {
        return match run_here(&name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                fixture::say(failed.message().unwrap_or("it failed"));
                ExitCode::FAILURE
            }
        };
    }
    let has_kernel = fixture::kernel().is_some();
    let without = CASES.iter().map(|case| (case, false));
    let with = WITH_KERNEL.iter().map(|case| (case, !has_kernel));
    let trials = without.chain(with).map(|((name, _), ignored)| {
        Trial::test(*name, move || run_elsewhere(name)).with_ignored_flag(ignored)
    });
    let mut arguments = Arguments::from_args();
    // Cases look at processes and times; each has the machine to itself.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run_here(name: &str) -> Result<(), Failed> {
    if let Some(stage) = name.strip_prefix("victim-") {
        return killing::be_a_victim(stage);
    }
    let case = CASES.iter().chain(WITH_KERNEL).find(|case| case.0 == name);
    case.ok_or("there is no such case")?.1()
}

fn run_elsewhere(name: &str) -> Result<(), Failed> {
    // A case that hangs costs itself only: coreutils' timeout ends it, and with it its groups.
    let me = std::env::current_exe()?;
    let output = Command::new("timeout").args(["--signal=KILL", LIMIT]).arg(me).env(CASE, name).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, said.trim()).into())
}
