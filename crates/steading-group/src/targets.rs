//! The list of what tells metrics, for Prometheus: it is the group that knows which VMs are on.

use std::sync::Arc;

use serde_json::{Value, json};
use steading_api::VmState;
use steading_plan::VmPlan;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::files::Files;
use crate::vm::VmHandle;

/// Keeps the list as it is to be, for as long as the group lives.
pub(crate) async fn keep(files: Files, vms: Vec<VmHandle>) {
    let changed = Arc::new(Notify::new());
    let mut watching = JoinSet::new();
    for vm in &vms {
        let (mut view, changed) = (vm.view(), Arc::clone(&changed));
        watching.spawn(async move {
            while view.changed().await.is_ok() {
                changed.notify_one();
            }
        });
    }
    loop {
        let on = vms.iter().filter(|vm| vm.status().state != VmState::Off);
        files.set_targets(&list(on.map(|vm| vm.plan.as_ref())));
        changed.notified().await;
    }
}

/// What Prometheus takes from an HTTP service discovery (`http_sd_config`).
fn list<'a>(on: impl Iterator<Item = &'a VmPlan>) -> Value {
    let told = on.filter(|vm| !vm.spec.metrics.is_empty());
    told.map(|vm| {
        let targets: Vec<String> =
            vm.spec.metrics.iter().map(|port| format!("[{}]:{port}", vm.address)).collect();
        json!({ "targets": targets, "labels": { "vm": vm.name.as_str() } })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use steading_plan::{Boot, HostFacts, ImageSource, Plan, Testnet, VmSpec};

    use super::*;

    #[test]
    fn only_vms_that_are_on_and_tell_metrics_are_listed() {
        let vm = |name: &str| VmSpec::new(name, Boot::Bios).disk(ImageSource::new("/disk"));
        let declared = [vm("a").metrics(2379).metrics(9100), vm("quiet"), vm("off").metrics(1)];
        let facts = HostFacts::default();
        let plan = Plan::derive(&"g".parse().unwrap(), &Testnet::new().vms(declared), &facts).unwrap();
        let address = plan.vm("a").unwrap().address;
        let targets = [format!("[{address}]:2379"), format!("[{address}]:9100")];
        let listed = list(plan.vms.iter().filter(|vm| vm.name.as_str() != "off"));
        assert_eq!(listed, json!([{ "targets": targets, "labels": { "vm": "a" } }]));
    }
}
