"""What a testnet needs of the host, by the same sums as the driver's (`steading_plan::Resources`)."""

# Of a QEMU process beside its guest's memory, in MiB.
_OVERHEAD_MIB = 96

# The least memory of a VM, in MiB.
_MINIMUM_MIB = 16

def vm(vcpus = 1, memory_mib = 512):
    """Declares a virtual machine of a testnet.

    Args:
      vcpus: virtual CPUs, at least 1.
      memory_mib: memory of the guest, in MiB.
    Returns:
      a value for the dictionary `vms` of `system_test`.
    """
    if type(vcpus) != "int" or vcpus < 1:
        fail("vcpus is {}, and a VM has at least 1".format(vcpus))
    if type(memory_mib) != "int" or memory_mib < _MINIMUM_MIB:
        fail("memory_mib is {}, and a VM has at least {} MiB".format(memory_mib, _MINIMUM_MIB))
    return struct(vcpus = vcpus, memory_mib = memory_mib)

def vms(names, vcpus = 1, memory_mib = 512):
    """Declares several virtual machines that are alike.

    Args:
      names: a name for each.
      vcpus: virtual CPUs of each.
      memory_mib: memory of each, in MiB.
    Returns:
      a dictionary for `vms` of `system_test`.
    """
    return {name: vm(vcpus, memory_mib) for name in names}

def reserved(machines, oversubscription):
    """What is to be reserved for a testnet.

    Args:
      machines: its VMs, by name.
      oversubscription: how many vCPUs share one CPU.
    Returns:
      a struct of `cpus`, which are ceil((1 + vCPUs) / oversubscription), and of `memory_mib`.
    """
    if type(oversubscription) != "int" or oversubscription < 1:
        fail("oversubscription is {}, and must be a whole number from 1".format(oversubscription))
    vcpus = 1
    memory_mib = 0
    for machine in machines.values():
        vcpus += machine.vcpus
        memory_mib += machine.memory_mib + _OVERHEAD_MIB
    return struct(
        cpus = (vcpus + oversubscription - 1) // oversubscription,
        memory_mib = memory_mib,
    )
