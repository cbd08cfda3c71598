"""System tests of clusters of virtual machines under Bazel.

    load("@steading//:defs.bzl", "system_test", "vm", "vms")

    system_test(
        name = "upgrade",
        driver = "//tests:upgrade",
        images = {"//images:node-2.0.img.zst": "node", "//images:node-1.9.img.zst": "old_node"},
        vms = vms(["n1", "n2", "n3"]) | {"load": vm(vcpus = 2, memory_mib = 1024)},
        timeout = "long",
    )
"""

load("//private:digest.bzl", _digests_of = "digests_of")
load("//private:resources.bzl", "reserved", _vm = "vm", _vms = "vms")
load("//private:system_test.bzl", _system_test_program = "system_test_program")

vm = _vm
vms = _vms

# Of all targets that run on this machine; see the selection helper, `steading select`.
LOCAL_TAG = "local_system_test"

# Of all targets that run on a farm.
FARM_TAG = "farm_system_test"

_BACKENDS = ["local", "farm"]

# What Bazel 4 to 6 reserves of memory by a test's size, in MiB; those after it heed the tag
# `resources:memory`.
_SIZES = [(20, "small"), (100, "medium"), (300, "large")]

def system_test(
        name,
        driver,
        vms,
        images = {},
        reference_guest = None,
        backend = "local",
        oversubscription = 1,
        timeout = "long",
        tags = [],
        data = [],
        args = [],
        env = {},
        log_require = [],
        log_forbid = [],
        freeze_on_failure = False,
        visibility = None,
        **kwargs):
    """Declares a system test, its targets for this machine and for a farm.

    Makes `NAME_local`, which runs on the machine of the test action; `NAME_farm`, which is refused
    as long as there is no farm; and `NAME`, a suite of the one that `backend` names.

    Args:
      name: the test.
      driver: the test program: an executable that was built with the library `steading`.
      vms: the VMs that the program declares, by name, each a `vm()`. From it comes what Bazel
        reserves; a program that asks for more than this is refused, and is told what to write here.
      images: labels of images, each with the name by which the program asks for it:
        `steading::image("NAME")`.
      reference_guest: label of the files of a built reference guest, for `steading::reference`.
      backend: where the suite `NAME` runs: "local" or "farm".
      oversubscription: how many vCPUs share one CPU. CPUs reserved: ceil((1 + vCPUs) / this).
      timeout: Bazel's time limit: short (1 min), moderate (5), long (15), eternal (60). The program ends
        its run, and writes what it knows, shortly before.
      tags: further tags of all targets.
      data: other files that the program reads.
      args: arguments of the program, such as names of tests; `$(rootpath)` and the like are expanded.
      env: environment of the program, with the same expansion.
      log_require: patterns (regular expressions) that some line of the log must match.
      log_forbid: patterns that no line of the log may match.
      freeze_on_failure: the testnet of a test that fails is kept in an output, for `steading resume`.
      visibility: of all targets.
      **kwargs: other attributes of Bazel's tests, such as `flaky` and `exec_properties`.
    """
    if backend not in _BACKENDS:
        fail("backend is \"{}\", and must be one of {}".format(backend, ", ".join(_BACKENDS)))
    if not vms:
        fail("{} declares no VM: say vms = {{\"n1\": vm()}}".format(name))
    need = reserved(vms, oversubscription)
    flags = ["--log-require=" + pattern for pattern in log_require]
    flags += ["--log-forbid=" + pattern for pattern in log_forbid]
    if freeze_on_failure:
        flags.append("--freeze-on-failure")
    shared = dict(
        driver = driver,
        image_digests = _digests_of(images),
        reference_guest = reference_guest,
        declared = _encode(vms),
        data = data,
        # Bazel and the shell take quotes and dollars for themselves.
        args = ["'" + flag.replace("'", "'\\''").replace("$", "$$") + "'" for flag in flags] + args,
        env = env,
        timeout = timeout,
        size = _size(need.memory_mib),
        visibility = visibility,
        **kwargs
    )
    _system_test_program(
        name = name + "_local",
        backend = "local",
        tags = tags + [
            LOCAL_TAG,
            # It makes its own network, and needs none. Not `requires-network` says the same to
            # those who forbid the network by default.
            "block-network",
            "cpu:%d" % need.cpus,
            "resources:memory:%d" % need.memory_mib,
        ],
        **shared
    )
    _system_test_program(
        name = name + "_farm",
        backend = "farm",
        # `manual`, since it would only be refused.
        tags = tags + [FARM_TAG, "manual", "requires-network"],
        **shared
    )
    native.test_suite(
        name = name,
        tests = [":{}_{}".format(name, backend)],
        tags = ["manual"] if backend == "farm" else [],
        visibility = visibility,
    )

def _encode(machines):
    """The VMs as the driver reads them."""
    declared = {}
    for name, machine in machines.items():
        if not hasattr(machine, "memory_mib"):
            fail("VM {} is declared by {}, and must be by vm()".format(name, repr(machine)))
        declared[name] = {"memory_mib": machine.memory_mib, "vcpus": machine.vcpus}
    return json.encode(declared)

def _size(memory_mib):
    for most, size in _SIZES:
        if memory_mib <= most:
            return size
    return "enormous"
