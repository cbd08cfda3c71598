//! Where things are built and run.
//!
//! An ordinary user builds and runs in the clone, as with plain cargo. Root builds as root, since
//! the toolchain may lie where only root can read it, and runs as the account `steading`, which may
//! be unable to read the clone. So root's sources are copied to [`STATE`], the target directory is
//! there too and readable, and every clone on the machine shares them. One run at a time has them:
//! another would replace the programs that the first is running.

use std::env;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::{fs::Mode, process::umask};

use crate::{checkout, error::Advise as _, user::User};

/// Root's copy of the sources, the target directory, and where the account's programs run.
pub(crate) const STATE: &str = "/var/lib/steading";

/// Directories of one run, and whom it runs as.
pub(crate) struct Place {
    /// The workspace that is built.
    pub(crate) sources: Utf8PathBuf,
    /// The target directory, when it is not cargo's own choice.
    pub(crate) target: Option<Utf8PathBuf>,
    /// The working directory of suites and benchmarks: it belongs to the user.
    pub(crate) run: Utf8PathBuf,
    pub(crate) user: User,
    /// Held until the run is over. It is close-on-exec, so nothing left behind can hold it.
    _lock: Option<fs::File>,
}

impl Place {
    /// Finds, or as root makes, the place of this run; waits for another run that has it.
    pub(crate) fn take() -> anyhow::Result<Place> {
        let clone = clone();
        let user = User::find()?;
        let User::Account(_) = &user else {
            let run = clone.join("out");
            user.make_directory(&run)?;
            return Ok(Place { sources: clone, target: None, run, user, _lock: None });
        };

        // What root makes from here on, and what cargo makes for it, others can read.
        umask(Mode::WGRP | Mode::WOTH);
        let state = Utf8Path::new(STATE);
        fs::create_dir_all(state)?;
        let lock = lock(&state.join("lock"))?;
        let sources = state.join("checkout");
        let changes = checkout::copy(&clone, &sources)
            .with_context(|| format!("cannot copy {clone} to {sources}"))
            .hint("is the disk full? `df /var/lib`")?;
        eprintln!("building in {state} as root, running as {}: {changes}", crate::user::ACCOUNT);
        let run = state.join("run");
        user.make_directory(&run)?;
        Ok(Place { sources, target: Some(state.join("target")), run, user, _lock: Some(lock) })
    }

    /// The clone, where cargo builds by itself: for what asks programs for no more than their help.
    pub(crate) fn clone_itself() -> anyhow::Result<Place> {
        let clone = clone();
        Ok(Place { run: clone.join("out"), sources: clone, target: None, user: User::find()?, _lock: None })
    }
}

/// The root of the clone that xtask was built in.
pub(crate) fn clone() -> Utf8PathBuf {
    // Cargo tells where the package is now; the directory may have moved since it was built.
    let package = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let package = Utf8PathBuf::from(package);
    package.parent().map_or_else(|| package.clone(), Utf8Path::to_owned)
}

fn lock(path: &Utf8Path) -> anyhow::Result<fs::File> {
    let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
    match file.file().try_lock() {
        Ok(()) => return Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {}
        Err(std::fs::TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {path}"));
        }
    }
    eprintln!("waiting for another run of xtask to end (it holds {path})");
    file.file().lock().with_context(|| format!("cannot lock {path}"))?;
    Ok(file)
}
