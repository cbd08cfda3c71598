//! How long the guests of a fork are left in peace before their journals are asked for.
//!
//! Under emulation all that a guest runs is translated anew in a fork, and what a test does first is to come
//! first. So the journals are followed once the VM's process has come to rest, or somebody could begin to
//! wonder where they are. Nothing is lost by it: the guest keeps them.

use std::time::Duration;

use steading_api::VmState;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::VmView;

/// The longest that it is waited.
const LIMIT: Duration = Duration::from_secs(4);

/// How often the process is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// How many periods in a row the process is to have been at rest.
const PERIODS: u32 = 3;

/// The ticks of CPU time in a period up to which it is at rest: three tenths of a CPU. A tick is 10 ms wherever
/// Linux runs on x86 (`sysconf(_SC_CLK_TCK)`, proc_pid_stat(5)).
const REST_TICKS: u64 = 3;

/// Tells `settled` once the VM runs and has come to rest, or after some seconds.
pub(crate) async fn watch(mut view: watch::Receiver<VmView>, settled: oneshot::Sender<()>) {
    // One that is loaded stands still until all others are.
    let runs = |view: &VmView| view.status.state == VmState::Running;
    let Ok(pid) = view.wait_for(runs).await.map(|view| view.status.pid) else { return };
    let end = Instant::now() + LIMIT;
    let (mut before, mut at_rest) = (ticks(pid), 0);
    while at_rest < PERIODS && Instant::now() < end {
        sleep(PERIOD).await;
        let now = ticks(pid);
        let rests = before.zip(now).is_none_or(|(before, now)| now.saturating_sub(before) <= REST_TICKS);
        at_rest = if rests { at_rest + 1 } else { 0 };
        before = now;
    }
    // Where nobody follows any more, nobody waits.
    let _ = settled.send(());
}

/// The CPU time of a process, while there is one.
fn ticks(pid: Option<i32>) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", pid?)).ok()?;
    cpu_ticks(&stat)
}

/// The fields utime and stime; the name before them may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (vm-a) 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 4 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("42 (vm-a) S 1"), None);
    }

    #[test]
    fn ones_own_cpu_time_is_known() {
        assert!(ticks(i32::try_from(std::process::id()).ok()).is_some());
        assert_eq!(ticks(None), None);
    }
}
