//! A section of a suite: setups, tests and other sections, teardowns.

use std::time::Duration;

use crate::group::Group;
use crate::limit::bounded;
use crate::suite::function::{Function, FunctionBody, Role, TestOptions};

/// How long a function may take unless it says otherwise.
const FUNCTION_LIMIT: Duration = Duration::from_secs(600);

/// The order in which the members of a section run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionOrder {
    /// One after the other, as declared.
    Sequential,
    /// In parallel, at most this many.
    Parallel(usize),
}

/// What happens to a test that asks for a fork of the testnet when there are no forks: the engine cannot
/// make them, or `--no-forks` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkFallback {
    /// The test is skipped, with the reason.
    Skip,
    /// The test gets a freshly booted testnet, in which the setups before it run again.
    Boot,
}

/// A section of a suite, with its own setup, teardown and order of tests.
pub struct Section {
    pub(crate) name: String,
    pub(crate) order: SectionOrder,
    pub(crate) setups: Vec<Function>,
    pub(crate) children: Vec<SectionMember>,
    pub(crate) teardowns: Vec<Function>,
    /// Each test gets a fork of the testnet.
    pub(crate) forks_each: Option<ForkFallback>,
    limit: Duration,
    needs_faults: bool,
}

pub(crate) enum SectionMember {
    Test(Function),
    Section(Section),
}

impl Section {
    pub(crate) fn new(name: impl Into<String>, order: SectionOrder, limit: Duration) -> Self {
        let (setups, children, teardowns) = (Vec::new(), Vec::new(), Vec::new());
        let (name, forks_each, needs_faults) = (name.into(), None, false);
        Self { name, order, setups, children, teardowns, forks_each, limit, needs_faults }
    }

    pub(crate) fn root() -> Self {
        Self::new("", SectionOrder::Sequential, FUNCTION_LIMIT)
    }

    /// Sets the time limit of the functions declared after this call [default: 10 minutes].
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = bounded(limit);
        self
    }

    /// Limits how many members of a parallel section run at the same time.
    #[must_use]
    pub fn at_most(mut self, count: usize) -> Self {
        if let SectionOrder::Parallel(at_most) = &mut self.order {
            *at_most = count.max(1);
        }
        self
    }

    /// Gives each test of this section and of sections in it its own fork of the testnet as the setups left
    /// it. No test sees what another does to its VMs. Parallel tests run at the same time as far as CPUs
    /// and memory allow.
    ///
    /// Setups and teardowns run in the group itself. `otherwise` decides what happens to the tests when there
    /// are no forks.
    #[must_use]
    pub fn fork_each(mut self, otherwise: ForkFallback) -> Self {
        self.forks_each = Some(otherwise);
        self
    }

    /// Declares that the tests after this call, including those of sections in it, make faults of the network. They
    /// are skipped where this is not possible (`--isolation launcher`), before anything starts for them.
    #[must_use]
    pub fn needs_faults(mut self) -> Self {
        self.needs_faults = true;
        self
    }

    /// Adds a setup, which runs first. If it fails, no test of this section runs.
    #[must_use]
    pub fn setup(mut self, body: impl Fn(&Group) -> anyhow::Result<()> + 'static) -> Self {
        let setup = self.function("setup", Role::Setup, TestOptions::new(), Box::new(body));
        self.setups.push(setup);
        self
    }

    /// Adds a test. It passes by returning `Ok`.
    #[must_use]
    pub fn test(
        self,
        name: impl Into<String>,
        body: impl Fn(&Group) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.test_with(name, TestOptions::new(), body)
    }

    /// Adds a test with options.
    #[must_use]
    pub fn test_with(
        mut self,
        name: impl Into<String>,
        options: TestOptions,
        body: impl Fn(&Group) -> anyhow::Result<()> + 'static,
    ) -> Self {
        let test = self.function(&name.into(), Role::Test, options, Box::new(body));
        self.children.push(SectionMember::Test(test));
        self
    }

    /// Adds a section whose tests run one after the other.
    #[must_use]
    pub fn sequential(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.section(name, SectionOrder::Sequential, fill)
    }

    /// Adds a section whose tests run in parallel.
    #[must_use]
    pub fn parallel(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.section(name, SectionOrder::Parallel(usize::MAX), fill)
    }

    /// Adds a teardown, which runs last, whatever happened before.
    #[must_use]
    pub fn teardown(mut self, body: impl Fn(&Group) -> anyhow::Result<()> + 'static) -> Self {
        let teardown = self.function("teardown", Role::Teardown, TestOptions::new(), Box::new(body));
        self.teardowns.push(teardown);
        self
    }

    fn section(
        mut self,
        name: impl Into<String>,
        order: SectionOrder,
        fill: impl FnOnce(Section) -> Section,
    ) -> Self {
        let name = self.path(&name.into());
        let mut section = Section::new(name, order, self.limit);
        section.needs_faults = self.needs_faults;
        let section = fill(section);
        self.children.push(SectionMember::Section(section));
        self
    }

    fn function(&self, name: &str, role: Role, mut options: TestOptions, body: FunctionBody) -> Function {
        options.needs_faults |= self.needs_faults && role == Role::Test;
        let limit = options.limit.unwrap_or(self.limit);
        Function { name: self.path(name), role, options, limit, body }
    }

    fn path(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}::{name}", self.name) }
    }
}
