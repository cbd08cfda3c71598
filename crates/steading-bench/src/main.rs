//! Measures Steading, as ratios side by side in one run wherever there is another way to do it.

#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

mod boot;
mod density;
mod engines;
mod faults;
mod files;
mod fork;
mod group;
mod guests;
mod latency;
mod logs;
mod processes;
mod scale;
mod script;
mod stats;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use steading_harness::live;

#[derive(Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// An empty group: namespaces, bridge, addresses, router daemon, control API; and its teardown.
    Group {
        /// How many groups, one after the other.
        #[arg(long, default_value_t = 50)]
        runs: usize,
    },
    /// Four guests to all journals answering, and the disks of eight VMs.
    Boot {
        /// How many pairs.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Two guests that speak while faults are active: what rules and relays cost.
    Faults {
        /// How often each.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// The same testnet by QEMU and by libvirt.
    Engines {
        /// How often each.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Freezing, forking and warm starts, next to booting the same again.
    Fork {
        /// How often each. Cold boots of a cluster differ by half, since its first election does.
        #[arg(long, default_value_t = 7)]
        runs: usize,
    },
    /// Journals: an export parsed, merged and written, next to journalctl reading the same; and the
    /// way of a line from a guest to the terminal.
    Logs {
        /// How many entries.
        #[arg(long, default_value_t = 300_000)]
        entries: usize,
        /// How many lines of a guest; with none, no guest is needed.
        #[arg(long, default_value_t = 300)]
        lines: usize,
    },
    /// The file server: one large file and many small ones, next to nginx.
    Files {
        /// How large the large file is, in MiB.
        #[arg(long, default_value_t = 1024)]
        large: u64,
        /// How many small ones.
        #[arg(long, default_value_t = 10_000)]
        small: usize,
        /// How often each.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Measures the file server from inside the group.
    #[command(hide = true)]
    FilesClient {
        /// Where both servers listen.
        address: std::net::Ipv6Addr,
        /// Where the files are.
        dir: camino::Utf8PathBuf,
        large: u64,
        small: usize,
        runs: usize,
    },
    /// Idle guests, each with a driver of its own: what they take, and how many fit.
    Density {
        /// How many guests.
        #[arg(long, default_value_t = 6)]
        guests: usize,
        /// How long they are left alone before, in seconds.
        #[arg(long, default_value_t = 60)]
        settle: u64,
        /// How long is measured, in seconds.
        #[arg(long, default_value_t = 60)]
        window: u64,
    },
    /// Groups of 1 to 500 simulated machines: how long the driver takes, and how much memory.
    Scale {
        /// How often each.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Is a driver of simulated machines.
    #[command(hide = true)]
    Scaled {
        /// The group.
        name: String,
        /// Where logs go.
        out: Utf8PathBuf,
        /// How many machines.
        count: usize,
    },
    /// Is a driver of one idle guest.
    #[command(hide = true)]
    Idle {
        /// The group.
        name: String,
        /// Where logs go.
        out: Utf8PathBuf,
    },
    /// Looks into a group that runs, as `steading` does.
    #[command(hide = true)]
    Live {
        /// The group.
        group: String,
        #[command(subcommand)]
        command: live::LiveCommand,
    },
    /// Waits inside a group.
    #[command(hide = true)]
    WaitForEtcd {
        /// The members.
        addresses: Vec<std::net::Ipv6Addr>,
    },
    /// Waits inside a group.
    #[command(hide = true)]
    WaitForJournals {
        /// The guests.
        addresses: Vec<std::net::Ipv6Addr>,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Group { runs } => group::measure(runs),
        Bench::Boot { runs } => boot::measure(runs),
        Bench::Logs { entries, lines } => {
            logs::measure(entries)?;
            if lines > 0 { latency::measure(lines) } else { Ok(()) }
        }
        Bench::Live { group, command } => live::run(&command, Some(&group)).map(drop),
        Bench::Files { large, small, runs } => files::measure(large, small, runs),
        Bench::FilesClient { address, dir, large, small, runs } => {
            files::measure_inside(address, &dir, large, small, runs)
        }
        Bench::Density { guests, settle, window } => density::measure(guests, settle, window),
        Bench::Idle { name, out } => density::idle(&name, &out),
        Bench::Scale { runs } => scale::measure(runs),
        Bench::Scaled { name, out, count } => scale::driver(&name, &out, count),
        Bench::Faults { runs } => faults::measure(runs),
        Bench::Engines { runs } => engines::measure(runs),
        Bench::Fork { runs } => fork::measure(runs),
        Bench::WaitForEtcd { addresses } => fork::wait_for_etcd(&addresses),
        Bench::WaitForJournals { addresses } => boot::wait_for_journals(&addresses),
    }
}
