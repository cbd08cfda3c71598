//! What Bazel tells its tests by their environment, and what it wants to be told ("Test encyclopedia",
//! bazel.build/reference/test-encyclopedia).

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use steading_plan::env_vars;

use crate::run::{RunArgs, Shard};
use crate::suite::Declared;

/// How long before Bazel's time limit a run ends by itself, if the limit allows: Bazel sends SIGTERM
/// at its limit and SIGKILL 15 s later, and teardown and report are to be done by then.
const RESERVE: Duration = Duration::from_secs(20);

/// Of a short limit, one in so many parts is left for that.
const SHORT_RESERVE: u32 = 4;

/// Has the run do as the environment says. Arguments on the command line go before it.
///
/// # Errors
///
/// When a variable cannot be understood.
pub(crate) fn obey(
    suite: &mut Declared,
    args: &mut RunArgs,
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    let variable = |name| environment(name).filter(|value| !value.is_empty());
    // Others have names that anything else might use, and Bazel 4 sets no BAZEL_TEST.
    if variable(env_vars::TEST_SRCDIR).is_none() {
        return Ok(());
    }
    if let Some(text) = variable(env_vars::TEST_TIMEOUT) {
        let seconds = number(env_vars::TEST_TIMEOUT, &text)?;
        let limit = limit_within(Duration::from_secs(seconds));
        // Bazel counts from here on, and not from when the testnet is up.
        suite.deadline = Some(Instant::now() + limit);
        suite.overall_limit = suite.overall_limit.min(limit);
    }
    if let Some(filter) = variable(env_vars::TESTBRIDGE_TEST_ONLY)
        && args.filter.is_empty()
    {
        args.filter.push(filter);
    }
    args.fail_fast |= variable(env_vars::TESTBRIDGE_TEST_RUNNER_FAIL_FAST).as_deref() == Some("1");
    if let Some(total) = variable(env_vars::TEST_TOTAL_SHARDS) {
        let total = number(env_vars::TEST_TOTAL_SHARDS, &total)?;
        let index = variable(env_vars::TEST_SHARD_INDEX).unwrap_or_default();
        let index = number(env_vars::TEST_SHARD_INDEX, &index)?;
        ensure!(
            index < total,
            "{} is {index}, and {} is {total}",
            env_vars::TEST_SHARD_INDEX,
            env_vars::TEST_TOTAL_SHARDS
        );
        args.shard = Some(Shard { index: usize::try_from(index)?, total: usize::try_from(total)? });
        if let Some(file) = variable(env_vars::TEST_SHARD_STATUS_FILE) {
            fs_err::write(file, "").context("cannot tell that the tests are divided")?;
        }
    }
    Ok(())
}

/// What of a limit is for setup and tests.
fn limit_within(limit: Duration) -> Duration {
    limit.saturating_sub(RESERVE.min(limit / SHORT_RESERVE))
}

fn number(variable: &str, text: &str) -> anyhow::Result<u64> {
    text.parse().with_context(|| format!("{variable} is {text:?}, and is to be a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    fn obeyed(variables: &[(&str, &str)], filter: &[&str]) -> anyhow::Result<(Declared, RunArgs)> {
        let mut suite = Suite::new("x").declared();
        let filter = filter.iter().map(ToString::to_string).collect();
        let mut args = RunArgs { filter, ..RunArgs::default() };
        obey(&mut suite, &mut args, &|name| {
            let bazels = [("TEST_SRCDIR", "/runfiles")];
            let mut all = bazels.iter().chain(variables);
            all.find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })?;
        Ok((suite, args))
    }

    #[test]
    fn a_run_ends_before_bazel_ends_it() {
        let limit =
            |seconds: &str| obeyed(&[("TEST_TIMEOUT", seconds)], &[]).unwrap().0.overall_limit.as_secs();
        assert_eq!(limit("900"), 880);
        assert_eq!(limit("60"), 45);
        // The suite's own is an hour.
        assert_eq!(limit("36000"), 3600);
    }

    #[test]
    fn filters_of_the_command_line_go_before_bazels() {
        let bazels = ("TESTBRIDGE_TEST_ONLY", "writes");
        assert_eq!(obeyed(&[bazels], &[]).unwrap().1.filter, ["writes"]);
        assert_eq!(obeyed(&[bazels], &["reads"]).unwrap().1.filter, ["reads"]);
        assert!(obeyed(&[("TESTBRIDGE_TEST_RUNNER_FAIL_FAST", "1")], &[]).unwrap().1.fail_fast);
        assert!(!obeyed(&[], &[]).unwrap().1.fail_fast);
    }

    #[test]
    fn a_part_of_the_tests_is_run_and_that_is_told() {
        let status = tempfile::NamedTempFile::new().unwrap();
        let path = status.path().to_str().unwrap().to_owned();
        status.close().unwrap();
        let variables = [
            ("TEST_TOTAL_SHARDS", "3"),
            ("TEST_SHARD_INDEX", "2"),
            ("TEST_SHARD_STATUS_FILE", path.as_str()),
        ];
        let (_, args) = obeyed(&variables, &[]).unwrap();
        assert_eq!(args.shard, Some(Shard { index: 2, total: 3 }));
        fs_err::remove_file(path).unwrap();
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_its_variable() {
        let Err(error) = obeyed(&[("TEST_TIMEOUT", "soon")], &[]) else { panic!("it was understood") };
        assert_eq!(error.to_string(), "TEST_TIMEOUT is \"soon\", and is to be a whole number");
        assert!(obeyed(&[("TEST_TOTAL_SHARDS", "2"), ("TEST_SHARD_INDEX", "2")], &[]).is_err());
    }
}
