//! From an engine's name to the engine of a group.

use std::sync::Arc;

use steading_plan::Engine;

use super::error::EngineError;
use super::libvirt::Libvirt;
use super::machine::{EngineConfig, VmEngine};
use super::qemu::Qemu;
use super::simulated::Simulated;

/// Sets up the engine that the plan names.
///
/// # Errors
///
/// When it needs a program that does not start.
pub async fn set_up(config: EngineConfig<'_>) -> Result<Arc<dyn VmEngine>, EngineError> {
    Ok(match config.plan.engine {
        Engine::Qemu => Arc::new(Qemu::new(config)),
        Engine::Libvirt => Arc::new(Libvirt::start(config).await?),
        Engine::Simulated => Arc::new(Simulated),
    })
}
