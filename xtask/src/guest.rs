//! The reference guest image, which tests and suites boot; made by `guest/build` as the user.

use std::env;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use crate::{command, error::Advise as _, place::Place};

/// Tells everything we start where the image is.
pub(crate) const VARIABLE: &str = "STEADING_GUEST";

/// Gives the directory of the image, which is made when it is not there: that takes a few minutes
/// and a package mirror, once for each change of `guest/`.
pub(crate) fn image(place: &Place) -> anyhow::Result<Utf8PathBuf> {
    let directory = match env::var(VARIABLE) {
        Ok(given) if !given.is_empty() => {
            let path = Utf8PathBuf::from(&given).canonicalize_utf8();
            path.with_context(|| format!("cannot use the guest image of {VARIABLE}={given}"))
                .hint(format!("unset {VARIABLE} and the image is made, or found, by guest/build"))?
        }
        _ => build(place)?,
    };
    if !directory.join("manifest.json").is_file() {
        bail!("{directory} holds no guest image: there is no manifest.json in it");
    }
    Ok(directory)
}

fn build(place: &Place) -> anyhow::Result<Utf8PathBuf> {
    let mut command = place.user.command(place.sources.join("guest/build"));
    command.current_dir(&place.run);
    let printed = command::output_shown(&mut command)
        .context("cannot make the guest image")
        .hint("what went wrong is said above by guest/build; `cargo xtask setup` installs what it needs")?;
    let path = printed.lines().last().unwrap_or_default().trim();
    if path.is_empty() {
        bail!("guest/build did not say where the image is");
    }
    Ok(path.into())
}
