//! The description of a test program for schedulers of several.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading_plan::Resources;
use steading_report::Report;

use crate::ending::fail;
use crate::exit_code;
use crate::suite::{Declared, Role};

/// The version of the description.
const VERSION: u32 = 1;

/// The command that prints it.
pub const COMMAND: &str = "__describe";

/// How long a group can take to come up, in addition to the limits of its functions.
const BRING_UP: Duration = Duration::from_secs(120);

/// The description of a test program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    #[serde(rename = "steading_description")]
    version: u32,
    /// The suite.
    pub suite: String,
    /// The resources of its testnet.
    pub resources: Resources,
    /// The longest time of one test alone, with setups and teardowns, in seconds.
    pub limit_seconds: u64,
}

impl Description {
    /// Parses the output of a program; none if it is not a test program of Steading.
    pub fn parse(said: &[u8]) -> Option<Self> {
        let description: Self = serde_json::from_slice(said).ok()?;
        (description.version == VERSION).then_some(description)
    }

    /// One, for tests.
    #[doc(hidden)]
    pub fn new(suite: &str, resources: Resources, limit_seconds: u64) -> Self {
        Self { version: VERSION, suite: suite.to_owned(), resources, limit_seconds }
    }
}

/// Prints it.
pub(crate) fn print(suite: &Declared, report: &Report) -> u8 {
    let described = (suite.testnet)().and_then(|testnet| {
        // What is declared is told, whether or not it fits here.
        let resources = Resources::of(&testnet.vms);
        let description = Description::new(&suite.name, resources, limit(suite).as_secs());
        Ok(serde_json::to_string(&description)?)
    });
    match described {
        Ok(json) => {
            report.print(&json);
            exit_code::PASSED
        }
        Err(error) => fail(report, exit_code::HOST, &error),
    }
}

/// The longest time of one test alone.
pub(crate) fn limit(suite: &Declared) -> Duration {
    let of = |role: Role| suite.tree.all().filter(move |function| function.role == role);
    let sum = |role| of(role).map(|function| function.limit).fold(Duration::ZERO, Duration::saturating_add);
    let (around, after) = (sum(Role::Setup), sum(Role::Teardown));
    let tests = of(Role::Test).map(|test| test.limit.saturating_mul(test.options.retries.saturating_add(1)));
    let longest = tests.max().unwrap_or_default();
    // The limit of the whole run is no limit of teardowns.
    let run = around.saturating_add(longest).min(suite.overall_limit);
    BRING_UP.saturating_add(run).saturating_add(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::LONGEST;
    use crate::suite::{Suite, TestOptions};

    fn seconds(suite: Suite) -> u64 {
        limit(&suite.declared()).as_secs() - BRING_UP.as_secs()
    }

    #[test]
    fn a_test_by_itself_takes_its_setups_its_retries_and_the_teardowns() {
        let suite = || {
            Suite::new("s")
                .limit(Duration::from_secs(10))
                .setup(|_| Ok(()))
                .test("short", |_| Ok(()))
                .test_with("long", TestOptions::new().retries(2), |_| Ok(()))
                .teardown(|_| Ok(()))
        };
        assert_eq!(seconds(suite()), 10 + 3 * 10 + 10);
        assert_eq!(seconds(suite().overall_limit(Duration::from_secs(15))), 15 + 10);
    }

    #[test]
    fn what_other_programs_print_is_no_description() {
        assert!(Description::parse(b"\nrunning 0 tests\n").is_none());
        assert!(Description::parse(br#"{"steading_description": 9}"#).is_none());
        let one = Description::new("s", Resources::default(), 1);
        assert_eq!(Description::parse(&serde_json::to_vec(&one).unwrap()).unwrap().suite, "s");
    }

    #[test]
    fn a_suite_without_limits_has_some_for_its_runner() {
        let suite = Suite::new("s").limit(Duration::MAX).overall_limit(Duration::MAX);
        let options = TestOptions::new().limit(Duration::MAX).retries(u32::MAX);
        let suite = suite.test("one", |_| Ok(())).test_with("two", options, |_| Ok(())).declared();
        assert_eq!(suite.overall_limit, LONGEST);
        assert!(suite.tree.all().all(|function| function.limit == LONGEST));
        assert!(limit(&suite) > LONGEST);
    }
}
