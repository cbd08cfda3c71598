//! What every reader of bytes that come from outside must hold, whatever the bytes are.
//!
//! Guests, QEMU, people and killed programs write what Steading reads. A target is a function from
//! bytes to nothing that panics when a reader breaks a promise: that it ends, that it does not care in
//! which pieces its input arrives, that it keeps no more than it says, and that what it understood is
//! the same when it is written and read again. The same functions are used three ways: by a short
//! search that is a part of the tests ([`short`]), by a long one that is guided by coverage
//! (`targets/`, with cargo-fuzz), and to look at one input again (`cargo xtask fuzz TARGET --input
//! FILE`). See `docs/design/fuzzing.md`.

#![forbid(unsafe_code)]

pub mod acme;
pub mod console;
pub mod dns;
pub mod events;
pub mod files;
pub mod image;
pub mod input;
pub mod journal;
pub mod launch;
pub mod log;
pub mod qmp;
pub mod report;
pub mod short;
pub mod testnet;

/// A reader, and what is to be tried on it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its program in `targets/`.
    pub name: &'static str,
    /// Reads the bytes; panics if a promise is broken.
    pub check: fn(&[u8]),
    /// Inputs as they should be, or as they once broke something. The search begins at them.
    pub seeds: &'static [&'static [u8]],
    /// What means something to the reader.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    acme::TARGET,
    console::TARGET,
    dns::TARGET,
    events::TARGET,
    files::TARGET,
    image::TARGET,
    journal::TARGET,
    launch::TARGET,
    log::TARGET,
    qmp::TARGET,
    report::TARGET,
    testnet::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
