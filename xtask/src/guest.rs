//! The guest images that tests and suites boot; made by the recipes in `guest/` as the user.

use std::env;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use crate::{command, error::Advise as _, place::Place};

/// A guest, and how everything we start is told where its image is.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) variable: &'static str,
    recipe: &'static str,
    /// The suite that alone boots it, if that is so.
    only_for: Option<&'static str>,
}

/// The reference guest, which most tests boot.
pub(crate) const REFERENCE: Guest =
    Guest { name: "guest image", variable: "STEADING_GUEST", recipe: "guest/build", only_for: None };

/// The guests that are booted where these suites are run.
pub(crate) fn wanted(suites: &[&str]) -> impl Iterator<Item = &'static Guest> {
    ALL.iter().filter(|guest| guest.only_for.is_none_or(|suite| suites.contains(&suite)))
}

/// All guests.
const ALL: &[Guest] = &[
    REFERENCE,
    Guest {
        name: "universal guest image",
        variable: "STEADING_UNIVERSAL_GUEST",
        recipe: "guest/universal/build",
        only_for: None,
    },
    Guest {
        name: "upgradable guest image",
        variable: "STEADING_UPGRADABLE_GUEST",
        recipe: "guest/upgradable/build",
        only_for: Some("suite-upgrade"),
    },
    Guest {
        name: "host guest image",
        variable: "STEADING_HOST_GUEST",
        recipe: "guest/host/build",
        only_for: Some("suite-nested"),
    },
];

impl Guest {
    /// Gives the directory of the image, which is made when it is not there: that takes a few minutes
    /// and a package mirror, once for each change of its recipe.
    pub(crate) fn image(&self, place: &Place) -> anyhow::Result<Utf8PathBuf> {
        let Self { variable, recipe, .. } = self;
        let directory = match env::var(variable) {
            Ok(given) if !given.is_empty() => {
                let path = Utf8PathBuf::from(&given).canonicalize_utf8();
                path.with_context(|| format!("cannot use the guest image of {variable}={given}"))
                    .hint(format!("unset {variable} and the image is made, or found, by {recipe}"))?
            }
            _ => self.build(place)?,
        };
        if !directory.join("manifest.json").is_file() {
            bail!("{directory} holds no guest image: there is no manifest.json in it");
        }
        Ok(directory)
    }

    fn build(&self, place: &Place) -> anyhow::Result<Utf8PathBuf> {
        let recipe = self.recipe;
        let mut command = place.user.command(place.sources.join(recipe));
        command.current_dir(&place.run);
        let printed = command::output_shown(&mut command)
            .with_context(|| format!("cannot make the guest image by {recipe}"))
            .hint(format!(
                "what went wrong is said above by {recipe}; `cargo xtask setup` installs what it needs"
            ))?;
        let path = printed.lines().last().unwrap_or_default().trim();
        if path.is_empty() {
            bail!("{recipe} did not say where the image is");
        }
        Ok(path.into())
    }
}
