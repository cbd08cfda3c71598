//! Lines of a kernel in trouble.
//!
//! A test that fails because the guest's kernel did is explained by one line of the console, which
//! nobody finds among thousands; so these lines are recognised as they pass.

use std::fmt;
use std::sync::LazyLock;

use regex::RegexSet;
use serde::{Deserialize, Serialize};

/// What a line says about the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Badness {
    /// `Kernel panic - not syncing`: the guest is dead.
    Panic,
    /// An invalid access in the kernel.
    Oops,
    /// A `BUG:` or `kernel BUG at`, other than those named here.
    Bug,
    /// A CPU that did not schedule, or an RCU stall. Under emulation on a loaded host it may mean
    /// no more than a slow host.
    Lockup,
    /// A process ended because memory ran out.
    OutOfMemory,
    /// A task blocked for minutes, usually on a disk.
    HungTask,
    /// A stack trace or a `WARNING:` whose cause stands in a line before.
    CallTrace,
    /// The root file system could not be mounted, or the initrd gave up.
    NoRoot,
}

impl fmt::Display for Badness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Panic => "kernel panic",
            Self::Oops => "kernel oops",
            Self::Bug => "kernel bug",
            Self::Lockup => "CPU lockup",
            Self::OutOfMemory => "out of memory",
            Self::HungTask => "hung task",
            Self::CallTrace => "call trace",
            Self::NoRoot => "no root file system",
        })
    }
}

/// The texts are those of the kernel's `kernel/panic.c`, `kernel/watchdog.c`, `mm/oom_kill.c`,
/// `kernel/hung_task.c`, `init/do_mounts.c`, `arch/x86`; the first that matches names the badness.
const PATTERNS: &[(Badness, &str)] = &[
    (Badness::NoRoot, r"Kernel panic - not syncing: (VFS: )?(Unable to mount root|No working init)"),
    (Badness::NoRoot, r"Gave up waiting for (root|suspend/resume) (file system )?device"),
    (Badness::Panic, r"Kernel panic - not syncing"),
    (Badness::Lockup, r"soft lockup - CPU#\d+|hard LOCKUP|rcu: INFO: .*(self-)?detected (expedited )?stall"),
    (Badness::OutOfMemory, r"Out of memory: Kill|oom-kill:|invoked oom-killer|Memory cgroup out of memory"),
    (Badness::HungTask, r"INFO: task .* blocked for more than \d+ seconds"),
    (Badness::Oops, r"\bOops: |Unable to handle kernel|general protection fault, (probably|maybe)"),
    (Badness::Bug, r"(^|\] |: )BUG: |kernel BUG at "),
    (Badness::CallTrace, r"(^|\] )\s*Call [Tt]race:|(^|\] )WARNING: CPU: \d+"),
];

static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(PATTERNS.iter().map(|(_, pattern)| pattern)).expect("the patterns are constants and tested")
});

/// Whether `line` is that of a kernel panic, whatever [`badness`] names as its cause.
pub fn is_panic(line: &str) -> bool {
    line.contains("Kernel panic - not syncing")
}

/// What `line`, stripped of control sequences, says about the kernel, if it is one of trouble.
pub fn badness(line: &str) -> Option<Badness> {
    SET.matches(line).iter().next().map(|index| PATTERNS[index].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_trouble_are_recognised() {
        let cases = [
            ("[    1.2] Kernel panic - not syncing: Attempted to kill init!", Badness::Panic),
            (
                "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
                Badness::NoRoot,
            ),
            ("[   12.345678] Oops: 0002 [#1] PREEMPT SMP", Badness::Oops),
            ("[   12.3] BUG: kernel NULL pointer dereference, address: 0000000000000000", Badness::Bug),
            ("[   12.3] kernel BUG at mm/slub.c:379!", Badness::Bug),
            ("[   60.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [stress:99]", Badness::Lockup),
            ("[   60.0] rcu: INFO: rcu_preempt self-detected stall on CPU", Badness::Lockup),
            ("[   61.0] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", Badness::Lockup),
            ("[    9.9] Out of memory: Killed process 99 (stress)", Badness::OutOfMemory),
            ("[  242.0] INFO: task jbd2/vda1-8:99 blocked for more than 120 seconds.", Badness::HungTask),
            ("[   12.3] Call Trace:", Badness::CallTrace),
        ];
        for (line, expected) in cases {
            assert_eq!(badness(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_panic_is_one_whatever_its_cause() {
        assert!(is_panic("[ 1.2] Kernel panic - not syncing: Attempted to kill init!"));
        assert!(is_panic("[ 1.2] Kernel panic - not syncing: VFS: Unable to mount root fs"));
        assert!(!is_panic("Gave up waiting for root file system device"));
    }

    #[test]
    fn ordinary_lines_are_not() {
        for line in [
            "[    0.0] Command line: console=ttyS0 panic=-1 oops=panic",
            "debian login: ",
            "DEBUG: nothing",
            "systemd-oomd.service: started",
        ] {
            assert_eq!(badness(line), None, "{line}");
        }
    }
}
