//! What can be wrong, as a closed list.

use anyhow::{Context as _, bail};

/// Names one of them.
const VARIABLE: &str = "MISHAP";

/// One thing that is wrong with the testnet, or with a guest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The image in `MISHAP_IMAGE`, whatever is wrong with it.
    Image,
    /// That image, declared with the digest of another.
    WrongHash,
    TooMuchMemory,
    TooManyVcpus,
    SameName,
    LongName,
    SpaceInName,
    SlashInName,
    /// That image, which holds nothing to boot.
    NeverBoots,
    /// Two guests that hang: one computes without an end, the other does nothing at all.
    Hangs,
    /// A test that fails while a VM with a display is on.
    Pictured,
    /// A guest that powers off as soon as it is up.
    PowersOff,
    /// A guest whose kernel panics.
    Panics,
    /// Nothing, but other groups are there at the same time.
    Neighbours,
    /// A VM that is frozen again and again, by tests in forks that go on without end.
    Freezes,
    /// A test that fails, in a guest that has something in its memory alone.
    FailsLate,
    /// Nothing: its guest boots.
    Warm,
    /// Nothing to boot, and the machine is shared with others.
    Shares,
}

impl Mishap {
    const ALL: [(Self, &str); 18] = [
        (Self::Image, "image"),
        (Self::WrongHash, "wrong-hash"),
        (Self::TooMuchMemory, "too-much-memory"),
        (Self::TooManyVcpus, "too-many-vcpus"),
        (Self::SameName, "same-name"),
        (Self::LongName, "long-name"),
        (Self::SpaceInName, "space-in-name"),
        (Self::SlashInName, "slash-in-name"),
        (Self::NeverBoots, "never-boots"),
        (Self::Hangs, "hangs"),
        (Self::Pictured, "pictured"),
        (Self::PowersOff, "powers-off"),
        (Self::Panics, "panics"),
        (Self::Neighbours, "neighbours"),
        (Self::Freezes, "freezes"),
        (Self::FailsLate, "fails-late"),
        (Self::Warm, "warm"),
        (Self::Shares, "shares"),
    ];

    /// The one that the environment asks for.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let hint = || {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("hint: {VARIABLE} is one of {}", names.join(", "))
        };
        let wanted = std::env::var(VARIABLE).with_context(|| format!("{VARIABLE} is not set\n{}", hint()))?;
        match Self::ALL.iter().find(|(_, name)| *name == wanted) {
            Some((mishap, _)) => Ok(*mishap),
            None => bail!("{VARIABLE}={wanted:?} is no mishap that there is\n{}", hint()),
        }
    }
}
