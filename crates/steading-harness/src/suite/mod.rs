//! The declarations of a test program: a testnet, sections of functions, limits, rules.

mod function;
mod rules;
mod section;
mod tree;

use std::ops::RangeBounds;
use std::time::{Duration, Instant};

use steading_plan::Testnet;

use crate::group::Group;
use crate::limit::bounded;

pub(crate) use function::Role;
pub use function::TestOptions;
pub(crate) use rules::{LogRule, MetricRule, Rules};
pub(crate) use section::SectionOrder;
pub use section::{ForkFallback, Section};
#[cfg(test)]
pub(crate) use tree::SectionShape;
pub(crate) use tree::{FunctionId, RunsIn, SectionId, SectionItem, SuiteShape, Tree};

/// How long a whole run may take unless it says otherwise.
const OVERALL_LIMIT: Duration = Duration::from_secs(3600);

/// A system test: declare it in `main`, and end `main` with [`Suite::main`].
pub struct Suite {
    name: String,
    testnet: Box<dyn Fn() -> anyhow::Result<Testnet>>,
    root: Section,
    overall_limit: Duration,
    rules: Rules,
    warm_start: bool,
}

/// A suite that is fully declared.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) testnet: Box<dyn Fn() -> anyhow::Result<Testnet>>,
    pub(crate) tree: Tree,
    pub(crate) overall_limit: Duration,
    /// When the whole run must have ended, whatever its own limit, since somebody else counts too.
    pub(crate) deadline: Option<Instant>,
    pub(crate) rules: Rules,
    pub(crate) warm_start: bool,
}

impl Suite {
    /// Creates a suite of this name, which is also the default name of its group.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            testnet: Box::new(|| Ok(Testnet::new())),
            root: Section::root(),
            overall_limit: OVERALL_LIMIT,
            rules: Rules::default(),
            warm_start: false,
        }
    }

    /// Declares the testnet. The function is called once, before anything is started.
    #[must_use]
    pub fn testnet(mut self, testnet: impl Fn() -> anyhow::Result<Testnet> + 'static) -> Self {
        self.testnet = Box::new(testnet);
        self
    }

    /// Starts from the cached testnet of an earlier run, if nothing that affects its boot has changed.
    /// Otherwise the testnet boots, and is cached. The earlier run can be one of another program with the
    /// same testnet and group name. Setup therefore finds booted guests, and must not rely on seeing them
    /// boot.
    #[must_use]
    pub fn warm_start(mut self) -> Self {
        self.warm_start = true;
        self
    }

    /// Sets the time limit of the functions declared after this call [default: 10 minutes].
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        self.root(|root| root.limit(limit))
    }

    /// Sets the time limit of the whole run [default: 1 hour]. Teardowns have their own limits in addition.
    #[must_use]
    pub fn overall_limit(mut self, limit: Duration) -> Self {
        self.overall_limit = bounded(limit);
        self
    }

    /// Gives each test its own fork of the testnet as setup left it; see [`Section::fork_each`].
    #[must_use]
    pub fn fork_each(self, otherwise: ForkFallback) -> Self {
        self.root(|root| root.fork_each(otherwise))
    }

    /// Adds a setup, which runs first. If it fails, no test runs.
    #[must_use]
    pub fn setup(self, body: impl Fn(&Group) -> anyhow::Result<()> + 'static) -> Self {
        self.root(|root| root.setup(body))
    }

    /// Adds a test, which runs after those declared before it. It passes by returning `Ok`.
    #[must_use]
    pub fn test(
        self,
        name: impl Into<String>,
        body: impl Fn(&Group) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.root(|root| root.test(name, body))
    }

    /// Adds a test with options.
    #[must_use]
    pub fn test_with(
        self,
        name: impl Into<String>,
        options: TestOptions,
        body: impl Fn(&Group) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.root(|root| root.test_with(name, options, body))
    }

    /// Adds a section whose tests run one after the other.
    #[must_use]
    pub fn sequential(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.root(|root| root.sequential(name, fill))
    }

    /// Adds a section whose tests run in parallel.
    #[must_use]
    pub fn parallel(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.root(|root| root.parallel(name, fill))
    }

    /// Adds a teardown, which runs last, whatever happened before.
    #[must_use]
    pub fn teardown(self, body: impl Fn(&Group) -> anyhow::Result<()> + 'static) -> Self {
        self.root(|root| root.teardown(body))
    }

    /// Adds a regular expression that no line of the log may match, whether of a console, a journal or a
    /// test.
    #[must_use]
    pub fn forbid_log(mut self, pattern: impl Into<String>) -> Self {
        self.rules.log.push(LogRule::forbid(pattern));
        self
    }

    /// Adds a regular expression that a line of the log must match.
    #[must_use]
    pub fn require_log(mut self, pattern: impl Into<String>) -> Self {
        self.rules.log.push(LogRule::require(pattern));
        self
    }

    /// Limits the values of this name that tests pass to [`Group::metric`] to a range. At least one value must
    /// be recorded.
    #[must_use]
    pub fn limit_metric(mut self, name: impl Into<String>, range: impl RangeBounds<f64>) -> Self {
        self.rules.metrics.push(MetricRule::new(name, &range));
        self
    }

    pub(crate) fn declared(self) -> Declared {
        Declared {
            name: self.name,
            testnet: self.testnet,
            tree: Tree::new(self.root),
            overall_limit: self.overall_limit,
            deadline: None,
            rules: self.rules,
            warm_start: self.warm_start,
        }
    }

    fn root(mut self, change: impl FnOnce(Section) -> Section) -> Self {
        self.root = change(self.root);
        self
    }
}
