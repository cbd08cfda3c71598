//! What may be reserved in all, and what fits.

use std::fmt;

use serde::{Deserialize, Serialize};
use steading_plan::Resources;

/// What may be reserved in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// CPUs.
    pub cpus: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// How many virtual CPUs a reserved CPU stands for.
    pub oversubscription: u64,
}

/// What one group reserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// CPUs.
    pub cpus: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Limits {
    /// What a testnet with these sums reserves. More CPUs than there are is all of them: virtual CPUs
    /// share real ones, so such a testnet runs, and runs alone. Memory is not shared.
    pub fn needs(&self, resources: Resources) -> Needs {
        let cpus = resources.reserved_cpus(self.oversubscription.max(1));
        Needs { cpus: cpus.min(self.cpus), memory_mib: resources.total_mib() }
    }

    /// Whether `more` fits in addition to what is held.
    pub fn fits(&self, held: Needs, more: Needs) -> bool {
        held.cpus.saturating_add(more.cpus.min(self.cpus)) <= self.cpus
            && held.memory_mib.saturating_add(more.memory_mib) <= self.memory_mib
    }

    /// What these groups hold in all. One with more CPUs than these limits know of holds all of them.
    pub fn sum(&self, held: impl IntoIterator<Item = Needs>) -> Needs {
        held.into_iter().fold(Needs::default(), |sum, needs| Needs {
            cpus: sum.cpus.saturating_add(needs.cpus.min(self.cpus)),
            memory_mib: sum.memory_mib.saturating_add(needs.memory_mib),
        })
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.cpus == 1 { "" } else { "s" };
        write!(f, "{} CPU{plural} and {} MiB", self.cpus, self.memory_mib)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Needs { cpus: self.cpus, memory_mib: self.memory_mib }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { cpus: 2, memory_mib: 1000, oversubscription: 4 };

    fn resources(vcpus: u64) -> Resources {
        Resources { vcpus, memory_mib: 500, overhead_mib: 100 }
    }

    #[test]
    fn a_testnet_reserves_a_share_of_its_virtual_cpus_and_the_driver_s() {
        for (vcpus, cpus) in [(1, 1), (3, 1), (4, 2), (7, 2)] {
            assert_eq!(LIMITS.needs(resources(vcpus)), Needs { cpus, memory_mib: 600 });
        }
    }

    #[test]
    fn a_testnet_with_more_cpus_than_there_are_runs_alone() {
        let needs = LIMITS.needs(resources(100));
        assert_eq!(needs.cpus, 2);
        assert!(LIMITS.fits(Needs::default(), needs));
        assert!(!LIMITS.fits(Needs { cpus: 1, memory_mib: 1 }, needs));
        // Also where another user has declared it with other limits.
        let foreign = Needs { cpus: 25, memory_mib: 600 };
        assert!(LIMITS.fits(Needs::default(), foreign));
        assert_eq!(LIMITS.sum([foreign]).cpus, 2);
    }

    #[test]
    fn memory_is_not_oversubscribed() {
        let needs = LIMITS.needs(resources(1));
        assert!(LIMITS.fits(Needs { cpus: 1, memory_mib: 400 }, needs));
        assert!(!LIMITS.fits(Needs { cpus: 1, memory_mib: 401 }, needs));
        assert!(!LIMITS.fits(Needs { cpus: 0, memory_mib: u64::MAX }, needs));
    }
}
