//! Reference guests that are ready to boot, and the command that waits for them.

use camino::Utf8PathBuf;
use steading_plan::{GroupName, HostFacts, Plan, Testnet, VmSpec};
use steading_vm::engine::{PreparedVm, prepare};
use steading_vm::image::ImageCache;

/// A prepared testnet.
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) vms: Vec<PreparedVm>,
    pub(crate) cache: ImageCache,
}

/// Prepares a testnet of so many reference guests.
pub(crate) fn prepare_guests(count: usize) -> anyhow::Result<Prepared> {
    let guest = steading::reference::guest()?;
    let vms = (1..=count).map(|number| -> VmSpec { guest.vm(format!("n{number}")) });
    let host = HostFacts::default();
    let group: GroupName = "bench-boot".parse()?;
    let plan = Plan::derive(&group, &Testnet::new().vms(vms), &host)?;
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    let vms = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {})).collect::<Result<_, _>>()?;
    Ok(Prepared { plan, vms, cache })
}

/// The command that waits inside the group's network until all journals answer.
pub(crate) fn waiter(plan: &Plan) -> anyhow::Result<Vec<String>> {
    let me = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let addresses = plan.vms.iter().map(|vm| vm.address.to_string());
    Ok([me.into_string(), "wait-for-journals".to_owned()].into_iter().chain(addresses).collect())
}
