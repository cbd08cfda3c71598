//! `cargo xtask demo`: a testnet of real machines at work, for somebody who sees it first.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{cargo, command, error::Advise as _, guest, place::Place, setup};

const SUITE: &str = "suite-etcd";

/// The command `demo`.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    setup::ensure()?;
    let place = Place::take()?;
    eprintln!("building {SUITE} and the guest image; the first time takes some minutes");
    let program = cargo::build_program(&place, SUITE, &[])?;
    let image = guest::REFERENCE.image(&place)?;
    println!("{}", introduction());
    let mut command = place.user.command(&program.path);
    command
        .arg("run")
        .current_dir(&place.run)
        .env(guest::REFERENCE.variable, &image)
        .env("RUST_BACKTRACE", "1");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", command::show(&command)))
        .hint("setpriv is of the package util-linux")?;
    println!("\nLogs of the machines and of the test are under {}.", place.run);
    println!("The test itself is suites/etcd/src/main.rs; everything else is in README.md.");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn introduction() -> &'static str {
    "\n\
     What happens now, on this machine and as an ordinary user:\n\
     \n\
     1. A private network is made, with a bridge, addresses, router and names. No root, no traffic\n   \
        leaves it, and your own network does not see it.\n\
     2. Virtual machines start in it, each with its own kernel, disk and address, and form a cluster\n   \
        of etcd, a database that lives through the loss of a member.\n\
     3. Tests are run against it, each in its own process: what happens when a machine loses power?\n\
     4. All of it is removed: the kernel does that, even if this program is killed.\n"
}
