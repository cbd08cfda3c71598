//! The options for bringing up a testnet on the command line.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser as _};
use steading_group::{Isolation, IsolationError, WantedIsolation};
use steading_plan::{Engine, env_vars, text_variable};

use crate::broker::BrokerOptions;
use crate::environment::variable;
use crate::limit::limit;

/// Options for bringing up a testnet.
#[derive(Args, Clone, Debug, Default)]
pub struct UpArgs {
    /// Start from the cached testnet of an earlier run, if nothing that affects its boot has changed;
    /// otherwise boot it, and cache it for later runs.
    #[arg(long, env = env_vars::STEADING_WARM, hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub warm: bool,
    /// Log directory [default: $TEST_UNDECLARED_OUTPUTS_DIR, else out/NAME/TIME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<Utf8PathBuf>,
    /// The engine.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The isolation of the group.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// The options of the broker.
    #[command(flatten)]
    pub broker: BrokerOptions,
}

/// The option for the grace period of programs and functions.
#[derive(Args, Clone, Copy, Debug)]
pub struct GraceArgs {
    /// Grace period of a program or function that was interrupted or reached its time limit (10s, 1min). It
    /// gets the signal that Steading received (SIGTERM at a time limit), and is killed at the end of this period
    /// or at a second signal.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = limit)]
    pub grace: Duration,
}

impl Default for GraceArgs {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}

/// The option for the engine of a group.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct EngineArgs {
    /// Engine that runs the VMs: QEMU directly, or libvirt with a session daemon for each group. With libvirt
    /// there are no freezes, forks and warm starts.
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

/// The option for the isolation of a group.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct IsolationArgs {
    /// How to isolate the group: with its own namespaces; or, on hosts that deny them to users, only by names,
    /// in a network that the launcher makes in the host's namespace. With the launcher there are no faults of
    /// the network, no forks, and no addresses of your own choice.
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
    /// Returns the setting of the environment, for commands without this option.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let isolation = text_variable(env_vars::STEADING_ISOLATION, &variable)?;
        let isolation = isolation.map(|name| name.parse()).transpose()?.unwrap_or_default();
        Ok(Self { isolation })
    }

    /// Chooses an isolation that this host supports. The caller must have one thread.
    pub(crate) fn choose(self) -> Result<Isolation, IsolationError> {
        Isolation::choose(self.isolation)
    }
}

impl EngineArgs {
    /// Refuses what the engine cannot do, before anything starts.
    pub(crate) fn check(self, freeze_on_failure: bool) -> anyhow::Result<()> {
        match self.engine.capabilities().no_freeze {
            Some(why) if freeze_on_failure => {
                anyhow::bail!("cannot use --freeze-on-failure: {why}\nhint: omit it, or use --engine qemu")
            }
            _ => Ok(()),
        }
    }
}
