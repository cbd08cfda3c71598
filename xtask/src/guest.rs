//! Guest images, which tests and suites boot; made by recipes such as `guest/build`, as the user.

use std::env;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use crate::{command, error::Advise as _, place::Place};

/// How a guest image is made, and how programs are told where it is.
pub(crate) struct Recipe {
    /// What it makes, in the singular.
    pub(crate) what: &'static str,
    /// Tells everything we start where the image is.
    pub(crate) variable: &'static str,
    /// The program, from the root of the workspace. It prints the directory of the image.
    program: &'static str,
}

/// What tests, suites, demo and benchmarks boot.
pub(crate) const REFERENCE: Recipe =
    Recipe { what: "guest image", variable: "STEADING_GUEST", program: "guest/build" };

/// What single suites boot beside it.
pub(crate) const OTHERS: &[Recipe] = &[Recipe {
    what: "upgradable guest image",
    variable: "STEADING_UPGRADABLE_GUEST",
    program: "guests/upgradable/build",
}];

impl Recipe {
    /// Gives the directory of the image, which is made when it is not there: that takes a few minutes
    /// and a package mirror, once for each change of the recipe.
    pub(crate) fn image(&self, place: &Place) -> anyhow::Result<Utf8PathBuf> {
        let Recipe { what, variable, program } = self;
        let directory = match env::var(variable) {
            Ok(given) if !given.is_empty() => {
                let path = Utf8PathBuf::from(&given).canonicalize_utf8();
                path.with_context(|| format!("cannot use the {what} of {variable}={given}"))
                    .hint(format!("unset {variable} and the image is made, or found, by {program}"))?
            }
            _ => self.build(place)?,
        };
        if !directory.join("manifest.json").is_file() {
            bail!("{directory} holds no {what}: there is no manifest.json in it");
        }
        Ok(directory)
    }

    fn build(&self, place: &Place) -> anyhow::Result<Utf8PathBuf> {
        let Recipe { what, program, .. } = self;
        let mut command = place.user.command(place.sources.join(program));
        command.current_dir(&place.run);
        let printed = command::output_shown(&mut command)
            .with_context(|| format!("cannot make the {what}"))
            .hint(format!(
                "what went wrong is said above by {program}; `cargo xtask setup` installs what it needs"
            ))?;
        let path = printed.lines().last().unwrap_or_default().trim();
        if path.is_empty() {
            bail!("{program} did not say where the {what} is");
        }
        Ok(path.into())
    }
}
