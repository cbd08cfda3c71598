//! What a test program declares: a testnet, setup, test functions, teardowns, limits.

use std::process::ExitCode;
use std::time::Duration;

use steading_plan::Testnet;

use crate::context::Context;

/// How long a function may take unless it says otherwise.
const FUNCTION_LIMIT: Duration = Duration::from_secs(600);

/// How long a whole run may take unless it says otherwise.
const OVERALL_LIMIT: Duration = Duration::from_secs(3600);

type Body = Box<dyn Fn(&Context) -> anyhow::Result<()>>;

/// What a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Setup,
    Test,
    Teardown,
}

/// One function of a suite.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) limit: Duration,
    pub(crate) body: Body,
}

/// A system test: declare it in `main`, and end `main` with [`Suite::main`].
pub struct Suite {
    pub(crate) name: String,
    pub(crate) testnet: Box<dyn Fn() -> anyhow::Result<Testnet>>,
    pub(crate) functions: Vec<Function>,
    pub(crate) overall_limit: Duration,
    limit: Duration,
}

impl Suite {
    /// A suite of this name, which is also the name of its group.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            testnet: Box::new(|| Ok(Testnet::new())),
            functions: Vec::new(),
            overall_limit: OVERALL_LIMIT,
            limit: FUNCTION_LIMIT,
        }
    }

    /// Declares the testnet. It is asked for once, before anything is touched.
    #[must_use]
    pub fn testnet(mut self, testnet: impl Fn() -> anyhow::Result<Testnet> + 'static) -> Self {
        self.testnet = Box::new(testnet);
        self
    }

    /// The limit of the functions that are declared after it; 10 minutes at first.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The limit of the whole run; an hour at first.
    #[must_use]
    pub fn overall_limit(mut self, limit: Duration) -> Self {
        self.overall_limit = limit;
        self
    }

    /// What is done first. Without its success no test is run.
    #[must_use]
    pub fn setup(self, body: impl Fn(&Context) -> anyhow::Result<()> + 'static) -> Self {
        self.function("setup", Role::Setup, body)
    }

    /// A test, run after those that were declared before it. It succeeds by returning `Ok`.
    #[must_use]
    pub fn test(
        self,
        name: impl Into<String>,
        body: impl Fn(&Context) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.function(name, Role::Test, body)
    }

    /// What is done last, whatever happened before.
    #[must_use]
    pub fn teardown(self, body: impl Fn(&Context) -> anyhow::Result<()> + 'static) -> Self {
        self.function("teardown", Role::Teardown, body)
    }

    /// Does what the command line says.
    pub fn main(self) -> ExitCode {
        crate::cli::main(&self)
    }

    fn function(
        mut self,
        name: impl Into<String>,
        role: Role,
        body: impl Fn(&Context) -> anyhow::Result<()> + 'static,
    ) -> Self {
        let function = Function { name: name.into(), role, limit: self.limit, body: Box::new(body) };
        self.functions.push(function);
        self
    }

    /// The functions with this role, in the order of declaration.
    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.role == role)
    }

    /// The first name that two functions share.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let names = || self.functions.iter().map(|function| function.name.as_str());
        names()
            .enumerate()
            .find(|(index, name)| names().take(*index).any(|other| other == *name))
            .map(|found| found.1)
    }
}
