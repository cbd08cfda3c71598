//! When a guest has come to rest.
//!
//! Under emulation all that a guest runs is translated anew in a fork, and what a test does first is to come
//! first. So nothing is asked of a fork's guests until they have come to rest: not their journals, of which nothing
//! is lost, since the guests keep them, and not to hear of routers, which they know. And what is to be forked often is
//! frozen when its guests are at rest, or all its forks would do what they were about to do.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use steading_api::VmState;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::{Vm, VmView};

/// The longest that a fork's guests are left in peace; somebody could begin to wonder where their journals are.
const LIMIT: Duration = Duration::from_secs(4);

/// How often the process is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// How many periods in a row the process of a VM in a fork is to have been at rest.
const PERIODS: u32 = 3;

/// The same for one that is to be frozen. Each fork saves what is waited for here.
const PERIODS_BEFORE_FREEZE: u32 = 10;

/// The ticks of CPU time in a period up to which it is at rest: three tenths of a CPU. A tick is 10 ms wherever
/// Linux runs on x86 (`sysconf(_SC_CLK_TCK)`, proc_pid_stat(5)).
const REST_TICKS: u64 = 3;

/// Tells `settled` once the VM runs and has come to rest, or after some seconds.
pub(crate) async fn watch(mut view: watch::Receiver<VmView>, settled: oneshot::Sender<()>) {
    // One that is loaded stands still until all others are.
    let runs = |view: &VmView| view.status.state == VmState::Running;
    let Ok(pid) = view.wait_for(runs).await.map(|view| view.status.pid) else { return };
    rests(pid, PERIODS, LIMIT).await;
    // Where nobody follows any more, nobody waits.
    let _ = settled.send(());
}

/// Waits until all VMs of a fork that run have come to rest, or the first VM boots.
pub(crate) fn at_rest_or_booting(vms: &[&Vm]) -> impl Future<Output = ()> + use<> {
    // Whatever boots from now on is seen.
    let booting: FuturesUnordered<_> = vms.iter().map(|vm| boots(vm.view(), vm.status().boot)).collect();
    let at_rest = at_rest(vms, PERIODS, LIMIT);
    async move {
        tokio::pin!(booting);
        tokio::select! {
            _ = booting.next() => {}
            () = at_rest => {}
        }
    }
}

async fn boots(mut view: watch::Receiver<VmView>, before: u32) {
    if view.wait_for(|view| view.status.boot != before).await.is_err() {
        // One that is gone boots no more.
        std::future::pending::<()>().await;
    }
}

/// Waits until the VMs that run have come to rest and may be frozen, but not for longer than `limit`.
pub(crate) async fn before_freeze(vms: &[&Vm], limit: Duration) {
    at_rest(vms, PERIODS_BEFORE_FREEZE, limit).await;
}

fn at_rest(vms: &[&Vm], periods: u32, limit: Duration) -> impl Future<Output = ()> + use<> {
    let running = vms.iter().map(|vm| vm.status()).filter(|status| status.state == VmState::Running);
    let resting: Vec<_> = running.map(|status| rests(status.pid, periods, limit)).collect();
    async { drop(join_all(resting).await) }
}

async fn rests(pid: Option<i32>, periods: u32, limit: Duration) {
    let end = Instant::now() + limit;
    let mut rest = Rest::since(ticks(pid));
    while Instant::now() < end {
        sleep(PERIOD).await;
        if rest.periods_after(ticks(pid)) >= periods {
            return;
        }
    }
}

/// What was seen of a process, a look each period.
struct Rest {
    /// Its CPU time at the last look; none if it was gone.
    ticks: Option<u64>,
    /// How many periods in a row it has been at rest.
    periods: u32,
}

impl Rest {
    const fn since(ticks: Option<u64>) -> Self {
        Self { ticks, periods: 0 }
    }

    fn periods_after(&mut self, ticks: Option<u64>) -> u32 {
        let before = std::mem::replace(&mut self.ticks, ticks);
        let rests = before.zip(ticks).is_none_or(|(before, now)| now.saturating_sub(before) <= REST_TICKS);
        self.periods = if rests { self.periods + 1 } else { 0 };
        self.periods
    }
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
    fn quiet_periods_in_a_row_are_counted() {
        let looks = |ticks: &[u64]| -> Vec<u32> {
            let mut rest = Rest::since(Some(0));
            ticks.iter().map(|ticks| rest.periods_after(Some(*ticks))).collect()
        };
        assert_eq!(looks(&[3, 4, 7]), [1, 2, 3]);
        assert_eq!(looks(&[3, 6, 10, 13, 13, 13]), [1, 2, 0, 1, 2, 3]);
        assert_eq!(looks(&[10, 20, 30, 40]), [0; 4]);
    }

    #[test]
    fn what_has_ended_rests() {
        let mut rest = Rest::since(None);
        assert_eq!([None, None, None].map(|ticks| rest.periods_after(ticks)), [1, 2, 3]);
    }

    #[test]
    fn ones_own_cpu_time_is_known() {
        assert!(ticks(i32::try_from(std::process::id()).ok()).is_some());
        assert_eq!(ticks(None), None);
    }
}
