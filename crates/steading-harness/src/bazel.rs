//! The protocol between Bazel and its tests: environment variables and files ("Test encyclopedia",
//! bazel.build/reference/test-encyclopedia).

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::Utf8PathBuf;
use steading_plan::{Environment, env_vars, integer_variable, text_variable};

use crate::run::{RunArgs, Shard};
use crate::suite::Declared;

/// How long before Bazel's time limit a run ends by itself, if the limit allows: Bazel sends SIGTERM
/// at its limit and SIGKILL 15 s later, and teardown and report are to be done by then.
const RESERVE: Duration = Duration::from_secs(20);

/// Of a short limit, one in so many parts is left for that.
const SHORT_RESERVE: u32 = 4;

/// Applies the variables of Bazel to the run. Arguments on the command line take precedence.
///
/// # Errors
///
/// When a variable has an invalid value.
pub(crate) fn obey(
    suite: &mut Declared,
    args: &mut RunArgs,
    environment: Environment<'_>,
) -> anyhow::Result<()> {
    let text = |name| text_variable(name, environment);
    let integer = |name| integer_variable(name, environment);
    // Others have names that anything else might use, and Bazel 4 sets no BAZEL_TEST.
    if text(env_vars::TEST_SRCDIR)?.is_none() {
        return Ok(());
    }
    if let Some(seconds) = integer(env_vars::TEST_TIMEOUT)? {
        let limit = limit_within(Duration::from_secs(seconds));
        // Bazel counts from here on, and not from when the testnet is up.
        suite.deadline = Some(Instant::now() + limit);
        suite.overall_limit = suite.overall_limit.min(limit);
    }
    if let Some(filter) = text(env_vars::TESTBRIDGE_TEST_ONLY)?
        && args.filter.is_empty()
    {
        args.filter.push(filter);
        args.may_match_none = true;
    }
    args.fail_fast |= text(env_vars::TESTBRIDGE_TEST_RUNNER_FAIL_FAST)?.as_deref() == Some("1");
    // Some versions set 0 where the tests are not divided.
    if let Some(total) = integer(env_vars::TEST_TOTAL_SHARDS)?.filter(|total| *total > 0) {
        let index = integer(env_vars::TEST_SHARD_INDEX)?;
        let index = index.with_context(|| {
            format!("{} is set, and {} is not", env_vars::TEST_TOTAL_SHARDS, env_vars::TEST_SHARD_INDEX)
        })?;
        ensure!(
            index < total,
            "{} is {index}, and {} is {total}",
            env_vars::TEST_SHARD_INDEX,
            env_vars::TEST_TOTAL_SHARDS
        );
        args.shard = Some(Shard { index: usize::try_from(index)?, total: usize::try_from(total)? });
        if let Some(file) = text(env_vars::TEST_SHARD_STATUS_FILE)? {
            fs_err::write(file, "").context("cannot write the file that tells Bazel about sharding")?;
        }
    }
    Ok(())
}

/// The part of a limit that is for setup and tests.
fn limit_within(limit: Duration) -> Duration {
    limit.saturating_sub(RESERVE.min(limit / SHORT_RESERVE))
}

/// The file by which Bazel sees that a test ended before its end: it is there from the start of a run until its
/// orderly end. A process that is killed, or that exits somewhere in the middle, leaves it.
#[must_use]
pub(crate) struct Unended(Option<Utf8PathBuf>);

impl Unended {
    /// Creates the file, if Bazel asks for one.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub(crate) fn begin(environment: Environment<'_>) -> anyhow::Result<Self> {
        if text_variable(env_vars::TEST_SRCDIR, environment)?.is_none() {
            return Ok(Self(None));
        }
        let file = text_variable(env_vars::TEST_PREMATURE_EXIT_FILE, environment)?.map(Utf8PathBuf::from);
        if let Some(file) = &file {
            let cannot =
                || format!("cannot create the file that {} names", env_vars::TEST_PREMATURE_EXIT_FILE);
            fs_err::write(file, "").with_context(cannot)?;
        }
        Ok(Self(file))
    }

    /// Removes the file: the run has ended, whatever its result.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Some(file) = self.0 else { return Ok(()) };
        fs_err::remove_file(file).context("cannot remove the file that marks a premature exit for Bazel")
    }
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
            all.find(|(n, _)| *n == name).map(|(_, value)| value.into())
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
    fn tests_that_are_not_divided_are_in_one_part() {
        let variables = [("TEST_TOTAL_SHARDS", "0"), ("TEST_SHARD_INDEX", "0")];
        assert_eq!(obeyed(&variables, &[]).unwrap().1.shard, None);
    }

    #[test]
    fn the_file_of_a_premature_exit_is_there_until_the_run_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit");
        let environment = |name: &str| match name {
            "TEST_SRCDIR" => Some("/runfiles".into()),
            "TEST_PREMATURE_EXIT_FILE" => Some(path.clone().into()),
            _ => None,
        };
        let run = Unended::begin(&environment).unwrap();
        assert!(path.exists());
        run.end().unwrap();
        assert!(!path.exists());
        // Without Bazel the name is anybody's.
        let others = |name: &str| environment(name).filter(|_| name != "TEST_SRCDIR");
        Unended::begin(&others).unwrap().end().unwrap();
        let nowhere = |name: &str| {
            environment(name).map(|value| if name == "TEST_SRCDIR" { value } else { "/nowhere/x".into() })
        };
        let Err(error) = Unended::begin(&nowhere) else { panic!("it was created") };
        assert!(error.to_string().contains("TEST_PREMATURE_EXIT_FILE"), "{error}");
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_its_variable() {
        let Err(error) = obeyed(&[("TEST_TIMEOUT", "soon")], &[]) else { panic!("it was understood") };
        let said = error.to_string();
        assert!(said.starts_with("TEST_TIMEOUT is \"soon\": expected an integer from 1 to "), "{said}");
        assert!(obeyed(&[("TEST_TOTAL_SHARDS", "2")], &[]).is_err());
        assert!(obeyed(&[("TEST_TOTAL_SHARDS", "2"), ("TEST_SHARD_INDEX", "2")], &[]).is_err());
    }
}
