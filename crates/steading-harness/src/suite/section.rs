//! A part of a suite: setups, tests and further parts, teardowns.

use std::time::Duration;

use crate::group::Group;
use crate::limit::bounded;
use crate::suite::function::{Function, FunctionBody, Role, TestOptions};

/// How long a function may take unless it says otherwise.
const FUNCTION_LIMIT: Duration = Duration::from_secs(600);

/// In what order the tests and sections of a section run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionOrder {
    /// One after the other, as declared.
    Sequential,
    /// Side by side, so many at most.
    Parallel(usize),
}

/// What becomes of a test that asks for a fork of the testnet where none can be made: because the
/// engine cannot, or because of `--no-forks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkFallback {
    /// It is skipped, with that reason.
    Skip,
    /// It gets a testnet that is booted anew, in which the setups before it are run again.
    Boot,
}

/// A part of a suite, with its own setup and teardown, whose tests run in an order of their own.
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

    /// The limit of the functions that are declared after it; 10 minutes at first.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = bounded(limit);
        self
    }

    /// How many of its tests and sections may run at once, if they run side by side.
    #[must_use]
    pub fn at_most(mut self, count: usize) -> Self {
        if let SectionOrder::Parallel(at_most) = &mut self.order {
            *at_most = count.max(1);
        }
        self
    }

    /// Gives each test, of this section and of those in it, a testnet of its own: a fork of the one
    /// that the setups left. Nothing that a test does to its VMs is seen by another. Where the tests
    /// run side by side, so many do as CPUs and memory allow.
    ///
    /// Setups and teardowns run in the group itself. `otherwise` says what becomes of the tests where
    /// there can be no forks.
    #[must_use]
    pub fn fork_each(mut self, otherwise: ForkFallback) -> Self {
        self.forks_each = Some(otherwise);
        self
    }

    /// Says that the tests declared after it, and those of sections in it, make faults of the network. Where the
    /// group's network cannot be changed (`--isolation launcher`) they are skipped, before anything starts for them.
    #[must_use]
    pub fn needs_faults(mut self) -> Self {
        self.needs_faults = true;
        self
    }

    /// What is done first. Without its success no test of this section is run.
    #[must_use]
    pub fn setup(mut self, body: impl Fn(&Group) -> anyhow::Result<()> + 'static) -> Self {
        let setup = self.function("setup", Role::Setup, TestOptions::new(), Box::new(body));
        self.setups.push(setup);
        self
    }

    /// A test. It succeeds by returning `Ok`.
    #[must_use]
    pub fn test(
        self,
        name: impl Into<String>,
        body: impl Fn(&Group) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.test_with(name, TestOptions::new(), body)
    }

    /// A test of which more is to be said.
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

    /// A section whose tests run one after the other.
    #[must_use]
    pub fn sequential(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.section(name, SectionOrder::Sequential, fill)
    }

    /// A section whose tests run side by side.
    #[must_use]
    pub fn parallel(self, name: impl Into<String>, fill: impl FnOnce(Section) -> Section) -> Self {
        self.section(name, SectionOrder::Parallel(usize::MAX), fill)
    }

    /// What is done last, whatever happened before.
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
