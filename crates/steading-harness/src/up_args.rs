//! How a testnet is to be brought up, as it is said on the command line.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser as _};
use steading_group::{Isolation, IsolationError, WantedIsolation};
use steading_plan::{Engine, env_vars, text_variable};

use crate::broker::BrokerOptions;
use crate::environment::variable;
use crate::limit::limit;

/// How a testnet is to be brought up.
#[derive(Args, Clone, Debug, Default)]
pub struct UpArgs {
    /// Begin with the testnet as it had booted in an earlier run, if nothing that shaped it has
    /// changed since; else boot it, and keep it for later runs.
    #[arg(long, env = env_vars::STEADING_WARM, hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub warm: bool,
    /// Where logs go [default: $TEST_UNDECLARED_OUTPUTS_DIR, else out/NAME/TIME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<Utf8PathBuf>,
    /// What runs the VMs.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How groups are kept apart.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// Whose turn it is.
    #[command(flatten)]
    pub broker: BrokerOptions,
}

/// How long a program or a function may take to end by itself.
#[derive(Args, Clone, Copy, Debug)]
pub struct GraceArgs {
    /// How long a program or function that was interrupted, or ran into its limit, may take to end by itself
    /// (10s, 1min). It gets the signal that Steading has got (SIGTERM at a limit), and is killed when this time
    /// is over, or at a second signal.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = limit)]
    pub grace: Duration,
}

impl Default for GraceArgs {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}

/// What runs the VMs of a group.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct EngineArgs {
    /// What runs the VMs: QEMU, started by the group itself, or libvirt, by a session daemon of the group's
    /// own. With libvirt there are no freezes, forks and warm starts.
    #[arg(
        long,
        value_name = "ENGINE",
        env = env_vars::STEADING_ENGINE,
        hide_env_values = true,
        default_value_t,
        value_parser = PossibleValuesParser::new(Engine::ALL.map(Engine::as_str)).try_map(|name| name.parse::<Engine>())
    )]
    pub engine: Engine,
}

/// How a group is kept apart from all else.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct IsolationArgs {
    /// How the group is kept apart from all else: by namespaces of its own, or, on hosts that give users
    /// none, by names alone, with a network that the launcher makes in the host's own. With the launcher there
    /// are no faults of the network, no forks, and no addresses of one's own choice.
    #[arg(
        long,
        value_name = "ISOLATION",
        env = env_vars::STEADING_ISOLATION,
        hide_env_values = true,
        default_value_t,
        value_parser = PossibleValuesParser::new(WantedIsolation::ALL.map(WantedIsolation::as_str))
            .try_map(|name| name.parse::<WantedIsolation>())
    )]
    pub isolation: WantedIsolation,
}

impl IsolationArgs {
    /// What the environment alone says, for commands that have no such option.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let isolation = text_variable(env_vars::STEADING_ISOLATION, &variable)?;
        let isolation = isolation.map(|name| name.parse()).transpose()?.unwrap_or_default();
        Ok(Self { isolation })
    }

    /// What is to be had of it. The caller must have one thread.
    pub(crate) fn choose(self) -> Result<Isolation, IsolationError> {
        Isolation::choose(self.isolation)
    }
}

impl EngineArgs {
    /// Refuses what the engine cannot do, before anything starts.
    pub(crate) fn check(self, freeze_on_failure: bool) -> anyhow::Result<()> {
        match self.engine.capabilities().no_freeze {
            Some(why) if freeze_on_failure => {
                anyhow::bail!(
                    "--freeze-on-failure cannot be had: {why}\nhint: leave it out, or use --engine qemu"
                )
            }
            _ => Ok(()),
        }
    }
}
