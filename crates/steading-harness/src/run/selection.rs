//! Which tests of a suite are to be run, and why the others are not.

use std::collections::HashMap;
use std::time::Duration;

use crate::run::{Mode, RunArgs, Shard};
use crate::suite::{FunctionId, Tree};

/// What is to be run, and how.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The tests that are not, each with its reason.
    pub(crate) left_out: HashMap<FunctionId, String>,
    /// How many functions may run at once.
    pub(crate) slots: usize,
    /// How many forks may run at once, if it was said.
    pub(crate) forks: Option<usize>,
    /// There are to be no forks.
    pub(crate) no_forks: bool,
    /// The testnet of the first function that fails is kept.
    pub(crate) freeze_on_failure: bool,
    pub(crate) without_images: bool,
    /// The testnet stays up before it is torn down.
    pub(crate) stay: bool,
    /// After the first failure no other test is begun.
    pub(crate) fail_fast: bool,
    /// Added to the retries of each test.
    pub(crate) retries: u32,
    /// How long a function that is asked to end may take.
    pub(crate) grace: Duration,
    pub(crate) mode: Mode,
    /// The filter matches no test.
    pub(crate) matches_none: bool,
}

impl Selection {
    pub(crate) fn new(tree: &Tree, args: &RunArgs, mode: Mode) -> anyhow::Result<Self> {
        let mut left_out = HashMap::new();
        let mut is_any = args.filter.is_empty();
        for (index, id) in tree.tests().enumerate() {
            let reason = reason(args, mode, &tree[id].name, tree[id].options.ignored.as_deref())
                .or_else(|| args.shard.and_then(|shard| shard.leaves_out(index)));
            is_any |= is_named(args, &tree[id].name);
            if let Some(reason) = reason {
                left_out.insert(id, reason);
            }
        }
        anyhow::ensure!(
            is_any || args.may_match_none || mode == Mode::SetupOnly,
            "no test matches {}\nhint: show all tests with `list`",
            args.filter.join(" ")
        );
        Ok(Self {
            left_out,
            forks: args.forks.and_then(|forks| usize::try_from(forks).ok()),
            no_forks: args.no_forks,
            freeze_on_failure: args.freeze_on_failure,
            without_images: args.without_images,
            slots: args.jobs.unwrap_or(usize::MAX),
            stay: mode == Mode::SetupOnly || args.keepalive,
            fail_fast: args.fail_fast,
            retries: args.retries,
            grace: args.grace.grace,
            mode,
            matches_none: !is_any && mode == Mode::Tests,
        })
    }
}

impl Shard {
    /// Why this part does not run the test of this index, if so.
    fn leaves_out(self, index: usize) -> Option<String> {
        let other = index % self.total;
        (other != self.index).then(|| format!("it is in shard {other} of {}", self.total))
    }
}

/// Whether a test is run with these arguments.
pub(crate) fn is_selected(args: &RunArgs, name: &str, ignored: Option<&str>) -> bool {
    reason(args, Mode::Tests, name, ignored).is_none()
}

fn is_match(args: &RunArgs, name: &str, wanted: &str) -> bool {
    if args.exact { name == wanted } else { name.contains(wanted) }
}

/// Whether the filter, if there is one, names a test.
fn is_named(args: &RunArgs, name: &str) -> bool {
    args.filter.is_empty() || args.filter.iter().any(|wanted| is_match(args, name, wanted))
}

/// Why a test is not run, if so.
fn reason(args: &RunArgs, mode: Mode, name: &str, ignored: Option<&str>) -> Option<String> {
    if mode == Mode::SetupOnly {
        return Some("only setup runs".to_owned());
    }
    if !is_named(args, name) {
        return Some("not selected by the filter".to_owned());
    }
    if args.skip.iter().any(|skip| is_match(args, name, skip)) {
        return Some("skipped by --skip".to_owned());
    }
    match ignored {
        Some(reason) if !args.ignored && !args.include_ignored => Some(reason.to_owned()),
        None if args.ignored => Some("not ignored, and --ignored was given".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::is_selected as is_run;

    #[test]
    fn a_filter_selects_by_part_or_by_the_whole_name() {
        let args = |exact| RunArgs { filter: vec!["writes".to_owned()], exact, ..RunArgs::default() };
        assert!(is_run(&args(false), "writes_are_read", None));
        assert!(!is_run(&args(true), "writes_are_read", None));
        assert!(is_run(&args(true), "writes", None));
        assert!(!is_run(&args(false), "reboot", None));
        assert!(is_run(&RunArgs::default(), "anything", None));
    }

    #[test]
    fn each_test_is_in_one_part() {
        let shards = (0..3).map(|index| Shard { index, total: 3 });
        for test in 0..7 {
            assert_eq!(shards.clone().filter(|shard| shard.leaves_out(test).is_none()).count(), 1);
        }
    }

    #[test]
    fn skip_and_ignored_work_as_in_libtest() {
        let skip = RunArgs { skip: vec!["slow".to_owned()], ..RunArgs::default() };
        assert!(!is_run(&skip, "slow_one", None) && is_run(&skip, "fast", None));
        let ignored = Some("takes a day");
        assert_eq!(reason(&RunArgs::default(), Mode::Tests, "x", ignored).as_deref(), ignored);
        let only = RunArgs { ignored: true, ..RunArgs::default() };
        assert!(is_run(&only, "x", ignored) && !is_run(&only, "x", None));
        let both = RunArgs { include_ignored: true, ..RunArgs::default() };
        assert!(is_run(&both, "x", ignored) && is_run(&both, "x", None));
    }
}
