//! When a guest has come to rest.
//!
//! Under emulation all that a guest runs is translated again in a fork, and what a test does first is to come
//! first. So nothing is asked of a fork's guests until they have come to rest: not their journals, of which nothing
//! is lost, since the guests keep them, and not to hear of routers, which they know. They come to rest together: one may
//! wait for the other's answer. And what is to be forked often is frozen when its guests are at rest, or all its
//! forks would do what they were about to do.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::stream::FuturesUnordered;
use steading_api::VmState;
use steading_sys::stat::Stat;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::handle::VmHandle;
use super::view::VmView;

/// How often processes are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// The ticks of CPU time in a period up to which a process is at rest: three tenths of a CPU. A tick is 10 ms
/// wherever Linux runs on x86 (`sysconf(_SC_CLK_TCK)`, proc_pid_stat(5)).
const REST_TICKS: u64 = 3;

/// What is taken for rest.
#[derive(Clone, Copy)]
struct Rule {
    /// For how many periods in a row no process has more than the ticks.
    periods: u32,
    /// Whether one that would run and gets no CPU at the moment is at rest.
    may_wait_for_cpu: bool,
}

/// Of a fork. It may be one of many that share the CPUs.
const OF_A_FORK: Rule = Rule { periods: 3, may_wait_for_cpu: false };

/// Of what is to be frozen. Each fork saves what is waited for here: the reference guest writes its journal to the
/// disk two seconds after a message.
const BEFORE_A_FREEZE: Rule = Rule { periods: 25, may_wait_for_cpu: true };

/// The longest that a fork's guests are left in peace; somebody could begin to wonder where their journals are.
const LIMIT: Duration = Duration::from_secs(4);

/// The rest of a fork's guests, for all who wait for it.
pub(crate) type AtRest = Shared<BoxFuture<'static, ()>>;

/// Ends when all VMs of a fork that run now have come to rest, or after some seconds.
pub(crate) fn at_rest(vms: &[&VmHandle]) -> AtRest {
    rests(pids(vms), OF_A_FORK, LIMIT).boxed().shared()
}

/// Ends when the VMs are at rest, or the first of them boots.
pub(crate) fn at_rest_or_booting(vms: &[&VmHandle], at_rest: AtRest) -> impl Future<Output = ()> + use<> {
    // Whatever boots from now on is seen.
    let mut booting: FuturesUnordered<_> = vms.iter().map(|vm| boots(vm.view(), vm.status().boot)).collect();
    async move {
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
pub(crate) async fn before_freeze(vms: &[&VmHandle], limit: Duration) {
    rests(pids(vms), BEFORE_A_FREEZE, limit).await;
}

/// The processes of VMs that run.
fn pids(vms: &[&VmHandle]) -> Vec<i32> {
    let running = vms.iter().map(|vm| vm.status()).filter(|status| status.state == VmState::Running);
    running.filter_map(|status| status.pid).collect()
}

/// Waits until all are at rest at once: one of them may wait for another's answer.
async fn rests(pids: Vec<i32>, rule: Rule, limit: Duration) {
    let end = Instant::now() + limit;
    let ticks = || pids.iter().map(|pid| ticks(*pid)).collect::<Vec<_>>();
    let (mut before, mut periods) = (ticks(), 0);
    while !pids.is_empty() && Instant::now() < end {
        sleep(PERIOD).await;
        let now = ticks();
        let all = before.iter().zip(&now).all(|(before, now)| rested(*before, *now))
            && (rule.may_wait_for_cpu || !pids.iter().any(|pid| wants_cpu(*pid)));
        periods = if all { periods + 1 } else { 0 };
        if periods >= rule.periods {
            return;
        }
        before = now;
    }
}

/// Whether a process took little CPU time between two looks. One that has ended takes none.
fn rested(before: Option<u64>, now: Option<u64>) -> bool {
    before.zip(now).is_none_or(|(before, now)| now.saturating_sub(before) <= REST_TICKS)
}

/// The CPU time of a process, while there is one.
fn ticks(pid: i32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.ticks)
}

/// Whether a thread of the process runs, or waits for a CPU.
fn wants_cpu(pid: i32) -> bool {
    Stat::of_threads(pid).any(|thread| thread.is_runnable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_no_more_than_some_ticks_is_at_rest() {
        assert!(rested(Some(10), Some(13)));
        assert!(!rested(Some(10), Some(14)));
    }

    #[test]
    fn what_has_ended_rests() {
        assert!(rested(Some(10), None) && rested(None, None));
        assert!(ticks(i32::MAX).is_none() && !wants_cpu(i32::MAX));
    }

    #[test]
    fn a_process_that_computes_is_seen_to() {
        let me = std::process::id().cast_signed();
        assert!(ticks(me).is_some() && wants_cpu(me));
    }

    /// With a process of its own for each that computes or does not.
    #[tokio::test]
    async fn all_rest_only_when_none_computes() {
        let start = |line: &str| {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-c", line]).kill_on_drop(true).spawn().expect("a shell")
        };
        let pid = |child: &tokio::process::Child| child.id().expect("it runs").cast_signed();
        let (idle, busy) = (start("exec tail -f /dev/null"), start("while :; do :; done"));
        let limit = Duration::from_secs(60);
        let one = tokio::time::timeout(limit / 2, rests(vec![pid(&idle)], OF_A_FORK, limit)).await;
        assert!(one.is_ok(), "the idle one rests");
        let both = rests(vec![pid(&idle), pid(&busy)], OF_A_FORK, limit);
        let waited = tokio::time::timeout(PERIOD * (OF_A_FORK.periods + 3), both).await;
        assert!(waited.is_err(), "one computes");
        let none = rests(Vec::new(), OF_A_FORK, limit).now_or_never();
        assert!(none.is_some(), "without a process there is nothing to wait for");
    }
}
