//! What a testnet needs of its host, as sums known before it starts.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::VmSpec;

/// Memory of a QEMU process without its guest's, in MiB: code, devices, translated blocks.
/// Measured with QEMU 7.2 under emulation, rounded up.
pub const OVERHEAD_MIB: u64 = 96;

/// How many virtual CPUs a reserved CPU stands for, unless it is said otherwise: a guest mostly waits.
pub const OVERSUBSCRIPTION: u64 = 4;

/// A sum of resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Virtual CPUs of all VMs.
    pub vcpus: u64,
    /// Memory of all guests, in MiB.
    pub memory_mib: u64,
    /// Memory of the processes without their guests', in MiB.
    pub overhead_mib: u64,
}

/// What a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResources {
    /// CPUs that this process may use.
    pub cpus: u64,
    /// Memory in all, in MiB.
    pub memory_mib: u64,
}

/// A testnet that can never fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// Too much memory.
    #[error(
        "the testnet needs {needed} MiB of memory, and this machine has {has} MiB: {sum}\nhint: declare less memory_mib, or fewer VMs"
    )]
    Memory {
        /// MiB wanted.
        needed: u64,
        /// MiB there are.
        has: u64,
        /// How the need adds up.
        sum: String,
    },
    /// More vCPUs than a machine of QEMU's takes.
    #[error(
        "VM {vm} has {vcpus} vCPUs, and QEMU's machine q35 takes {VCPUS_MAX} at most\nhint: declare fewer"
    )]
    Vcpus {
        /// The VM.
        vm: String,
        /// What it asks for.
        vcpus: u32,
    },
    /// More memory than a guest has addresses for.
    #[error(
        "VM {vm} has {memory_mib} MiB of memory, and an x86-64 guest takes {MEMORY_MAX_MIB} at most\nhint: declare less"
    )]
    Addresses {
        /// The VM.
        vm: String,
        /// What it asks for.
        memory_mib: u32,
    },
    /// Nothing to run with.
    #[error(
        "VM {vm} has {what}\nhint: declare at least 1 vCPU, and {MINIMUM_MIB} MiB; Linux needs 64 MiB or more"
    )]
    Nothing {
        /// The VM.
        vm: String,
        /// What is missing.
        what: String,
    },
}

/// Less memory than this boots no firmware or kernel, in MiB.
const MINIMUM_MIB: u32 = 16;

/// What 46 bits of physical addresses reach, which is what Linux takes with four-level page tables
/// (`MAX_PHYSMEM_BITS`), in MiB.
const MEMORY_MAX_MIB: u32 = 1 << 26;

/// Beyond that a guest needs interrupt remapping, which machines here do not have (QEMU, hw/i386/x86-common.c).
const VCPUS_MAX: u32 = 255;

impl Resources {
    /// The sum over these VMs.
    pub fn of(vms: &[VmSpec]) -> Self {
        // Those inside others take theirs from them.
        vms.iter().filter(|vm| vm.inside.is_none()).fold(Self::default(), |sum, vm| Self {
            vcpus: sum.vcpus.saturating_add(vm.vcpus.into()),
            memory_mib: sum.memory_mib.saturating_add(vm.memory_mib.into()),
            overhead_mib: sum.overhead_mib.saturating_add(OVERHEAD_MIB),
        })
    }

    /// All memory, in MiB.
    pub const fn total_mib(self) -> u64 {
        self.memory_mib.saturating_add(self.overhead_mib)
    }

    /// CPUs to reserve in a scheduler: `ceil((1 + vCPUs) / oversubscription)`; the 1 is the driver.
    pub const fn reserved_cpus(self, oversubscription: u64) -> u64 {
        self.vcpus.saturating_add(1).div_ceil(oversubscription)
    }

    /// Refuses what fits no machine.
    pub(crate) fn check_declared(vms: &[VmSpec]) -> Result<(), ResourceError> {
        for vm in vms {
            let name = vm.name.clone();
            if vm.vcpus == 0 {
                return Err(ResourceError::Nothing { vm: name, what: "no vCPU".to_owned() });
            }
            if vm.memory_mib < MINIMUM_MIB {
                let what = format!("{} MiB of memory", vm.memory_mib);
                return Err(ResourceError::Nothing { vm: name, what });
            }
            if vm.memory_mib > MEMORY_MAX_MIB {
                return Err(ResourceError::Addresses { vm: name, memory_mib: vm.memory_mib });
            }
            if vm.vcpus > VCPUS_MAX {
                return Err(ResourceError::Vcpus { vm: name, vcpus: vm.vcpus });
            }
        }
        Ok(())
    }

    /// Refuses what can never fit on this host.
    pub(crate) fn check(self, vms: &[VmSpec], host: HostResources) -> Result<(), ResourceError> {
        let needed = self.total_mib();
        if needed > host.memory_mib {
            return Err(ResourceError::Memory { needed, has: host.memory_mib, sum: memory_sum(vms.iter()) });
        }
        Ok(())
    }
}

/// A warning, when a VM has more vCPUs than this host has CPUs.
pub(crate) fn strain(vms: &[VmSpec], host: HostResources) -> Option<String> {
    let vm = vms.iter().filter(|vm| u64::from(vm.vcpus) > host.cpus).max_by_key(|vm| vm.vcpus)?;
    Some(format!(
        "VM {} has {} vCPUs, and this machine has {} CPUs: its vCPUs wait for each other\nhint: a VM is rarely \
         faster for more vCPUs than there are CPUs, and often slower",
        vm.name, vm.vcpus, host.cpus
    ))
}

/// The terms of a sum of memory, in MiB.
pub(crate) fn memory_sum<'a>(vms: impl Iterator<Item = &'a VmSpec>) -> String {
    const SHOWN: usize = 6;
    let vms: Vec<&VmSpec> = vms.filter(|vm| vm.inside.is_none()).collect();
    let count = vms.len();
    let mut terms: Vec<String> =
        vms.iter().take(SHOWN).map(|vm| format!("{} {}", vm.name, vm.memory_mib)).collect();
    if count > SHOWN {
        terms.push(format!("{} more", count - SHOWN));
    }
    terms.push(format!("{OVERHEAD_MIB} for each of {count} QEMU processes"));
    terms.join(" + ")
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} vCPU{}, {} MiB of memory ({} for guests, {} for QEMU)",
            self.vcpus,
            if self.vcpus == 1 { "" } else { "s" },
            self.total_mib(),
            self.memory_mib,
            self.overhead_mib
        )
    }
}
