//! Runs a suite: brings its group up, runs its functions in the order of its schedule, tears it
//! down, and judges.

mod args;
mod attempt;
mod command;
mod follow;
mod forks;
mod pictures;
mod runner;
mod selection;
mod verdict;

use camino::Utf8Path;
use steading_logs::TestLog;
use steading_plan::Engine;
use steading_report::{Event, Kind, Outcome, Report, Row, Summary};

use crate::bring_up::{BringUpOptions, RunningGroup, blame, bring_up, default_log_dir};
use crate::broker::Copies;
use crate::ending::fail;
use crate::exit_code;
use crate::prepare;
use crate::suite::{Declared, RunsIn, Suite};
pub(crate) use args::{RunArgs, Shard};
pub(crate) use command::command_in;
pub use command::run_command;
use runner::Runner;
pub(crate) use selection::{Selection, is_selected};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tests,
    SetupOnly,
}

pub(crate) fn print_plan(suite: &Declared, group: Option<&str>, engine: Engine, report: &Report) -> u8 {
    let planned = (suite.testnet)()
        .and_then(|testnet| Ok(prepare::plan(group.unwrap_or(&suite.name), &testnet, engine)?))
        .and_then(|planned| Ok(serde_json::to_string_pretty(&planned.plan)?));
    match planned {
        Ok(json) => {
            report.print(&json);
            exit_code::PASSED
        }
        Err(error) => fail(report, blame(&error), &error),
    }
}

pub(crate) fn run(suite: &Declared, args: &RunArgs, mode: Mode, report: &Report) -> u8 {
    let selection = match Selection::new(&suite.tree, args, mode).and_then(|selection| {
        verdict::check_patterns(&suite.rules)?;
        args.up.engine.check(args.freeze_on_failure)?;
        Ok(selection)
    }) {
        Ok(selection) => selection,
        Err(error) => return fail(report, exit_code::USAGE, &error),
    };
    let group = args.group.as_deref().unwrap_or(&suite.name);
    if selection.matches_none {
        return skip_all(suite, &selection, args.up.out.as_deref(), report)
            .unwrap_or_else(|error| fail(report, exit_code::HOST, &error));
    }
    let forks = suite.tree.tests().filter(|id| !selection.left_out.contains_key(id));
    let has_forks = forks.into_iter().any(|id| matches!(suite.tree.place(id), RunsIn::Fork(..)));
    let copies = if has_forks { Copies::WithFork } else { Copies::One };
    let mut start = BringUpOptions::of(&args.up, copies);
    start.warm |= suite.warm_start;
    match bring_up(group, &*suite.testnet, &start, report) {
        Ok(up) => drive(suite, &selection, up, report),
        Err((code, error)) => fail(report, code, &error),
    }
}

/// Reports each test as skipped, without a testnet: a run of many programs with one filter, which need not name a test
/// of each.
fn skip_all(
    suite: &Declared,
    selection: &Selection,
    out: Option<&Utf8Path>,
    report: &Report,
) -> anyhow::Result<u8> {
    let log_dir = out.map_or_else(|| default_log_dir(&suite.name), Utf8Path::to_owned);
    fs_err::create_dir_all(&log_dir)?;
    let mut summary = Summary::new(&suite.name);
    for id in suite.tree.tests() {
        let reason = selection.left_out.get(&id).cloned().unwrap_or_default();
        summary.add(Row::new(&suite.tree[id].name, Kind::Test, Outcome::Skipped { reason }));
    }
    // The report has an empty log.
    drop(TestLog::open(&log_dir)?);
    summary.write(&log_dir)?;
    let page = steading_report::write(&log_dir)?.into_string();
    let log_dir = log_dir.into_string();
    report.tell(&Event::Finished { summary, log_dir, report: Some(page), again: None });
    Ok(exit_code::PASSED)
}

/// Stays with a group that is up, until it is interrupted or torn down.
pub(crate) fn stay(group: &str, up: RunningGroup, report: &Report) -> u8 {
    let suite = Suite::new(group).declared();
    match Selection::new(&suite.tree, &RunArgs::default(), Mode::SetupOnly) {
        Ok(selection) => drive(&suite, &selection, up, report),
        Err(error) => fail(report, exit_code::USAGE, &error),
    }
}

fn drive(suite: &Declared, selection: &Selection, up: RunningGroup, report: &Report) -> u8 {
    let log_dir = up.log_dir.clone();
    // Threads and event loops exist from here on only.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let runner = Runner::new(suite, selection, up, report, &log_dir)?;
            Ok(runner.run().await)
        })
    });
    ran.unwrap_or_else(|error: anyhow::Error| fail(report, exit_code::HOST, &error))
}
