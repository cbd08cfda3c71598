//! One function of a suite, and its options.

use crate::limit::bounded;
use std::time::Duration;

use crate::group::Group;

pub(crate) type FunctionBody = Box<dyn Fn(&Group) -> anyhow::Result<()>>;

/// What a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Setup,
    Test,
    Teardown,
}

/// One function of a suite.
pub(crate) struct Function {
    /// With the names of its sections.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) options: TestOptions,
    pub(crate) limit: Duration,
    pub(crate) body: FunctionBody,
}

/// The options of a test.
#[derive(Clone, Debug, Default)]
pub struct TestOptions {
    pub(crate) limit: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) ignored: Option<String>,
    pub(crate) needs_faults: bool,
}

impl TestOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time limit of one attempt.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(bounded(limit));
        self
    }

    /// Sets the number of retries after a failure. A test that passes at a later attempt is reported as
    /// flaky.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Ignores the test for this reason, unless `--include-ignored` or `--ignored` is given.
    #[must_use]
    pub fn ignored(mut self, reason: impl Into<String>) -> Self {
        self.ignored = Some(reason.into());
        self
    }

    /// Declares that the test makes faults of the network. It is skipped where this is not possible
    /// (`--isolation launcher`).
    #[must_use]
    pub fn needs_faults(mut self) -> Self {
        self.needs_faults = true;
        self
    }
}
