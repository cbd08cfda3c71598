//! `steading cache`: the cache of booted testnets.

use std::time::SystemTime;

use clap::Subcommand;
use steading_harness::{exit_code, warm};
use steading_report::output::println;

/// More MiB than this make no number of bytes.
const MIB_MAX: u64 = u64::MAX >> 20;

#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// List the cached testnets, the least recently used first.
    Ls,
    /// Remove the least recently used testnets until the cache is within its limit. Running groups are
    /// not affected.
    Gc {
        /// Limit of the cache in MiB [default: $STEADING_WARM_MIB, else 4096].
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(..=MIB_MAX))]
        max_mib: Option<u64>,
    },
}

pub(crate) fn run(command: &CacheCommand) -> anyhow::Result<u8> {
    match command {
        CacheCommand::Ls => {
            for kept in warm::list()? {
                let unused = SystemTime::now().duration_since(kept.used).unwrap_or_default().as_secs() / 60;
                let group = kept.group.as_deref().unwrap_or("(damaged)");
                println!("{:.16}  {:>6} MiB  used {unused} min ago  {group}", kept.key, kept.bytes >> 20);
            }
        }
        CacheCommand::Gc { max_mib } => {
            let limit = max_mib.map_or_else(warm::limit, |mib| Ok(mib << 20))?;
            for kept in warm::collect(limit, None)? {
                println!("removed {:.16} ({} MiB)", kept.key, kept.bytes >> 20);
            }
        }
    }
    Ok(exit_code::PASSED)
}
