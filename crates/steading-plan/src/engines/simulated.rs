//! Simulated machines: scripts within the group's owner, for tests of everything but guests.

use super::{Capabilities, Cards, Guests};

/// What plans ask of this engine.
pub(super) const CAPABILITIES: Capabilities = Capabilities {
    no_freeze: Some("the engine is simulated, whose machines have no memory that could be kept"),
    no_display: Some("simulated machines have none"),
    no_nested: Some("simulated machines run no guests"),
    cards: Cards::None,
    guests: Guests::Scripted,
    fw_cfg_files: usize::MAX,
    named_directory: None,
    programs: &[],
};
