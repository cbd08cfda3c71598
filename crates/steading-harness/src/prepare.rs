//! Plans a testnet and prepares its inputs, before there is a group.

use crate::environment::variable;
pub use crate::host::host_resources;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_files::{FileError, ServedFile};
use steading_group::{Admission, GroupConfig, Isolation, IsolationError, Origin, has_capabilities};
pub use steading_group::{Collected, find_launcher, probe_faults};
use steading_plan::{
    Acceleration, Boot, DeclaredVms, Engine, GroupName, Guests, HostFacts, NameError, ParseDeclaredError,
    Plan, PlanError, QemuFacts, Testnet, UndeclaredError, VariableError, VmName, env_vars, text_variable,
};
use steading_vm::engine::{
    AccelerationChoice, EngineError, FIRMWARE_CODE, PreparedVm, QEMU, choose_acceleration, disabled_features,
    prepare as prepare_vm,
};
use steading_vm::image::{ImageCache, ImageError, Progress, free_bytes};
use thiserror::Error;

/// Why a group cannot be made from a testnet.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The name of the group is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The testnet cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The declaration of the testnet's resources cannot be parsed.
    #[error(transparent)]
    Declared(#[from] ParseDeclaredError),
    /// The testnet needs more than was declared for it.
    #[error(transparent)]
    Undeclared(#[from] UndeclaredError),
    /// The image cache cannot be used.
    #[error(transparent)]
    Cache(#[from] ImageError),
    /// An input of a VM is invalid.
    #[error(transparent)]
    Vm(#[from] EngineError),
    /// A file cannot be served.
    #[error(transparent)]
    File(#[from] FileError),
    /// An environment variable has an invalid value.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// A directory cannot be made.
    #[error("cannot create the directory for {what}{hint}")]
    Directory {
        /// Its purpose.
        what: &'static str,
        /// The hint.
        hint: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// A planned testnet, and what its plan depends on.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The acceleration, and why it was chosen.
    pub acceleration: AccelerationChoice,
    /// A note about the declared resources.
    pub note: Option<String>,
}

/// Plans a testnet for this host.
///
/// # Errors
///
/// When the declaration is invalid. [`Plan::check`] decides whether it fits this machine.
pub fn plan(group: &str, testnet: &Testnet, engine: Engine) -> Result<Planned, PrepareError> {
    let group: GroupName = group.parse()?;
    let kernel = testnet.vms.iter().find_map(|vm| match &vm.boot {
        Boot::Kernel { kernel, .. } => Some(kernel.as_path()),
        Boot::Uefi | Boot::Bios => None,
    });
    // A testnet that is declared wrongly is refused before anything is tried.
    Plan::derive(&group, testnet, &HostFacts { engine, ..HostFacts::default() })?;
    let declared = text_variable(env_vars::STEADING_DECLARED_VMS, &variable)?;
    let note = match declared {
        Some(text) => DeclaredVms::parse(&text)?.check(&testnet.vms)?,
        None => None,
    };
    if engine.capabilities().guests == Guests::Scripted {
        let plan = Plan::derive(&group, testnet, &HostFacts { engine, ..HostFacts::default() })?;
        let reason = format!("the engine {engine} runs no guests");
        let acceleration = AccelerationChoice { acceleration: Acceleration::Tcg, reason };
        return Ok(Planned { plan, acceleration, note });
    }
    let cache = ImageCache::default_dir();
    let acceleration = choose_acceleration(&cache, kernel);
    let disabled_features = match acceleration.acceleration {
        Acceleration::Kvm => Vec::new(),
        Acceleration::Tcg => disabled_features(&cache),
    };
    let qemu = QemuFacts {
        program: QEMU.to_owned(),
        acceleration: acceleration.acceleration,
        disabled_features,
        firmware_code: FIRMWARE_CODE.to_owned(),
        tsc_mhz: steading_sys::tsc::frequency_mhz(),
    };
    let plan = Plan::derive(&group, testnet, &HostFacts { qemu, engine })?;
    Ok(Planned { plan, acceleration, note })
}

/// Unpacks images, checks every input, and creates directories.
///
/// # Errors
///
/// When an input is invalid, or there is not enough room.
pub fn prepare(
    plan: Plan,
    log_dir: &Utf8Path,
    progress: &mut dyn FnMut(&VmName, Progress),
) -> Result<GroupConfig, PrepareError> {
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    let prepared = plan.vms.iter().map(|vm| prepare_vm(vm, &cache, &mut |step| progress(&vm.name, step)));
    let prepared = prepared.collect::<Result<_, _>>()?;
    let files = plan.files.iter().map(|file| ServedFile::read(file, |opened| cache.digest(opened)));
    let files = files.collect::<Result<_, _>>()?;
    let (scratch, log_dir) = directories(log_dir)?;
    let admission = Admission::default();
    let (origin, isolation) = (Origin::Prepared(prepared), Isolation::default());
    Ok(GroupConfig { plan, origin, files, log_dir, scratch, admission, isolation })
}

/// Makes the directories of a group: for disks, and for logs.
///
/// # Errors
///
/// When they cannot be made.
pub fn directories(log_dir: &Utf8Path) -> Result<(Utf8PathBuf, Utf8PathBuf), PrepareError> {
    let failed = |what, hint| move |source| PrepareError::Directory { what, hint, source };
    let scratch = text_variable(env_vars::STEADING_SCRATCH_DIR, &variable)?;
    let scratch = scratch.map_or_else(ImageCache::default_dir, Utf8PathBuf::from);
    fs::create_dir_all(&scratch)
        .map_err(failed("disks", "\nhint: set STEADING_SCRATCH_DIR to a directory with enough room"))?;
    fs::create_dir_all(log_dir).map_err(failed("logs", "\nhint: choose another directory with --out DIR"))?;
    let log_dir = log_dir.canonicalize_utf8().map_err(failed("logs", ""))?;
    Ok((scratch, log_dir))
}

/// Returns a warning if the disks of a group can grow beyond the free space.
pub fn tight_room(config: &GroupConfig) -> Option<String> {
    let Origin::Prepared(prepared) = &config.origin else { return None };
    let most = prepared.iter().map(PreparedVm::disk_bytes).fold(0, u64::saturating_add);
    let free = free_bytes(&config.scratch).ok()?;
    let mib = |bytes: u64| bytes >> 20;
    (free < most).then(|| {
        format!(
            "the disks of {} VMs can grow to {} MiB, but {} has {} MiB left\n\
             hint: VMs get disk errors when it is full; set STEADING_SCRATCH_DIR to another directory",
            prepared.len(),
            mib(most),
            config.scratch,
            mib(free)
        )
    })
}

/// Returns the directory of the image cache.
pub fn cache_dir() -> Utf8PathBuf {
    ImageCache::default_dir()
}

/// Removes what killed drivers of this user left behind of groups without namespaces.
///
/// # Errors
///
/// When there is a launcher, and it fails.
pub fn collect_what_is_left() -> Result<Collected, IsolationError> {
    // One without capabilities has made nothing.
    let launcher = find_launcher().filter(|launcher| has_capabilities(launcher));
    steading_group::collect(launcher.as_deref())
}
