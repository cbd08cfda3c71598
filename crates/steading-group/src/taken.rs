//! What the QEMU processes of a group have taken, as the kernel told at their ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use steading_broker::Measured;
use steading_plan::{Plan, VmName};
use steading_sys::process::Usage;

/// By VM; of one that was started several times, the most that any of its processes had, and the time
/// of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<Mutex<BTreeMap<VmName, Usage>>>);

impl Taken {
    /// A process of this VM has ended.
    pub(crate) fn add(&self, vm: &VmName, usage: Usage) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = table.entry(vm.clone()).or_default();
        sum.memory_kib = sum.memory_kib.max(usage.memory_kib);
        sum.cpu += usage.cpu;
    }

    /// The sums; none where nothing has run.
    pub(crate) fn measured(&self, up: Duration) -> Option<Measured> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (!table.is_empty()).then(|| Measured {
            memory_mib: table.values().map(|usage| usage.memory_kib.div_ceil(1024)).sum(),
            cpu_ms: millis(table.values().map(|usage| usage.cpu).sum()),
            up_ms: millis(up),
        })
    }

    /// The same for people, compared with what was declared.
    pub(crate) fn message(&self, plan: &Plan) -> String {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let vms = plan.vms.iter().filter_map(|vm| {
            let usage = table.get(&vm.name)?;
            let declared = u64::from(vm.spec.memory_mib) + steading_plan::OVERHEAD_MIB;
            let (had, cpu) = (usage.memory_kib.div_ceil(1024), usage.cpu.as_secs_f64());
            Some(format!("{} {had} MiB of {declared} declared, {cpu:.1} s of CPU time", vm.name))
        });
        format!("the most memory that VMs had, and their CPU time: {}", vms.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_processes_of_a_vm_the_largest_counts_and_the_time_of_all() {
        let taken = Taken::default();
        assert_eq!(taken.measured(Duration::ZERO), None);
        let usage = |mib: u64, seconds| Usage { memory_kib: mib << 10, cpu: Duration::from_secs(seconds) };
        taken.add(&"a".parse().unwrap(), usage(300, 2));
        taken.add(&"a".parse().unwrap(), usage(200, 3));
        taken.add(&"b".parse().unwrap(), usage(100, 1));
        let measured = Measured { memory_mib: 400, cpu_ms: 6000, up_ms: 10_000 };
        assert_eq!(taken.measured(Duration::from_secs(10)), Some(measured));
    }
}
