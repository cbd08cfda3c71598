//! `steading image`: the image cache.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Subcommand;
use steading_harness::exit_code;
use steading_plan::Sha256;
use steading_report::output::{eprintln, println};
use steading_vm::image::{ImageCache, Progress};

/// More days than any file is old: 100 years.
const DAYS_MAX: u64 = 36_600;

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images in the cache.
    Ls,
    /// Unpack an image into the cache, and print its SHA-256.
    Import {
        /// Image, in any supported format.
        file: Utf8PathBuf,
        /// Fail unless its SHA-256 is this.
        #[arg(long)]
        sha256: Option<Sha256>,
    },
    /// Remove images that were not used for some time.
    Gc {
        /// Remove images whose last use is at least this many days ago.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=DAYS_MAX))]
        days: u64,
    },
}

pub(crate) fn run(command: &ImageCommand) -> anyhow::Result<u8> {
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    match command {
        ImageCommand::Ls => {
            for entry in cache.list()? {
                println!("{}  {:>7} MiB", entry.sha256, entry.allocated >> 20);
            }
        }
        ImageCommand::Import { file, sha256 } => {
            let mut waited = false;
            let mut progress = |progress| {
                if progress == Progress::Waiting && !waited {
                    waited = true;
                    eprintln!("another process is unpacking this image; waiting for it");
                }
            };
            let image = cache.prepare(file, *sha256, &mut progress)?;
            println!("{}", image.sha256);
        }
        ImageCommand::Gc { days } => {
            for entry in cache.remove_unused(Duration::from_secs(days * 24 * 3600))? {
                println!("removed {}", entry.sha256);
            }
        }
    }
    Ok(exit_code::PASSED)
}
