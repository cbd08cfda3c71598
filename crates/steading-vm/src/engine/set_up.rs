//! From an engine's name to what that engine does: the only place that knows all engines.

use std::sync::Arc;

use steading_plan::{Engine, Launch, VmPlan};

use super::error::EngineError;
use super::libvirt::Libvirt;
use super::machine::{EngineConfig, VmEngine};
use super::prepared::{self, PreparedVm};
use super::qemu::Qemu;
use super::simulated::{self, Simulated};
use crate::image::{ImageCache, Progress};

/// Checks all that a VM starts from, and unpacks its image into the cache.
///
/// This can take long, and it needs no namespaces: it is done before there is a group.
///
/// # Errors
///
/// When an image, kernel, firmware file or script is missing or cannot be used.
pub fn prepare(
    vm: &VmPlan,
    cache: &ImageCache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedVm, EngineError> {
    match vm.launch {
        Launch::Simulated => simulated::check(vm).map(|()| PreparedVm::default()),
        Launch::Qemu(_) | Launch::Libvirt(_) | Launch::Nested => prepared::prepare(vm, cache, progress),
    }
}

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
