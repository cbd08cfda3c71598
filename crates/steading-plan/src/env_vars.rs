//! Every environment variable that Steading reads, and every one that it sets, by name. What each that is read may
//! hold is in `variable.rs`.
//!
//! `cargo xtask docs` makes the reference page of this file: a line `// ## …` begins a section, and
//! each constant's documentation is its description.

// ## Read by `steading` and by test programs

/// `kvm` or `tcg` (emulation): what runs guests, without a probe. When it is not set, KVM is used where it
/// really boots a kernel, and emulation elsewhere.
pub const STEADING_ACCEL: &str = "STEADING_ACCEL";

/// What runs the VMs, as `--engine`: `qemu` or `libvirt`.
pub const STEADING_ENGINE: &str = "STEADING_ENGINE";

/// Where unpacked images are kept. By default the first of `/var/cache/steading`,
/// `$XDG_CACHE_HOME/steading`, `$HOME/.cache/steading` and `$TEST_TMPDIR/steading` that can be written
/// to, else `/var/tmp/steading-UID`.
pub const STEADING_CACHE_DIR: &str = "STEADING_CACHE_DIR";

/// Where VMs' own disks are, as files without a name. By default where unpacked images are.
pub const STEADING_SCRATCH_DIR: &str = "STEADING_SCRATCH_DIR";

/// The directory of a built reference guest, as `guest/build` prints it. By default the one that was
/// built last in the directory of unpacked images.
pub const STEADING_GUEST: &str = "STEADING_GUEST";

/// The directory of a built upgradable guest, as `guest/upgradable/build` prints it. By default the one
/// that was built last in the directory of unpacked images.
pub const STEADING_UPGRADABLE_GUEST: &str = "STEADING_UPGRADABLE_GUEST";

/// The directory of a built universal guest, as `guest/universal/build` prints it. By default the one that
/// was built last in the directory of unpacked images.
pub const STEADING_UNIVERSAL_GUEST: &str = "STEADING_UNIVERSAL_GUEST";

/// The directory of a built host guest, as `guest/host/build` prints it. By default the one that was built
/// last in the directory of unpacked images.
pub const STEADING_HOST_GUEST: &str = "STEADING_HOST_GUEST";

/// `namespaces`, `launcher` or `auto`: how groups are kept apart from all else, as `--isolation`.
pub const STEADING_ISOLATION: &str = "STEADING_ISOLATION";

/// The launcher, for hosts without user namespaces. By default `steading-launcher` next to the program that
/// runs, else on `PATH`.
pub const STEADING_LAUNCHER: &str = "STEADING_LAUNCHER";

/// How much the cache of booted testnets may take, in MiB; 4096 when it is not set.
pub const STEADING_WARM_MIB: &str = "STEADING_WARM_MIB";

/// With anything but `0`, `false`, `no`, `off` and nothing, test programs and `steading` begin with booted testnets that were kept, as with
/// `--warm`.
pub const STEADING_WARM: &str = "STEADING_WARM";

/// A number from 0.001 to 1000 by which the limit of waits (300 s) is multiplied, for slow hosts.
pub const STEADING_TIMEOUT_FACTOR: &str = "STEADING_TIMEOUT_FACTOR";

/// The directory by which groups that share this machine wait for each other, as `--broker-dir`. By default
/// the first of `/run/steading-broker`, if an administrator has made it, `/dev/shm/steading-broker` and
/// `/tmp/steading-broker` that can be used.
pub const STEADING_BROKER_DIR: &str = "STEADING_BROKER_DIR";

/// How many CPUs groups may reserve in all, as `--broker-cpus`; as many as this process may use when it
/// is not set.
pub const STEADING_BROKER_CPUS: &str = "STEADING_BROKER_CPUS";

/// How much memory groups may reserve in all, in MiB, as `--broker-memory-mib`; as much as the machine,
/// or the control group around this process, has when it is not set.
pub const STEADING_BROKER_MEMORY_MIB: &str = "STEADING_BROKER_MEMORY_MIB";

/// How many virtual CPUs a reserved CPU stands for, as `--oversubscription`; 4 when it is not set.
pub const STEADING_OVERSUBSCRIPTION: &str = "STEADING_OVERSUBSCRIPTION";

/// With anything but `0`, `false`, `no`, `off` and nothing, groups start at once and reserve nothing, as
/// with `--no-broker`.
pub const STEADING_NO_BROKER: &str = "STEADING_NO_BROKER";

/// Followed by the name of an image, in capitals and with `_` for each character that is neither letter
/// nor digit: the path of an image for `steading::image`. The rules for Bazel set it.
pub const STEADING_IMAGE_PREFIX: &str = "STEADING_IMAGE_";

/// After the variable of an image's path: its SHA-256, which is checked then. The rules for Bazel
/// set it.
pub const STEADING_IMAGE_SHA256_SUFFIX: &str = "_SHA256";

/// The VMs that were declared for a test program, as JSON by their names:
/// `{"n1":{"memory_mib":512,"vcpus":1}}`. One that asks for more is refused. The rules for Bazel set
/// it.
pub const STEADING_DECLARED_VMS: &str = "STEADING_DECLARED_VMS";

/// Where a test of Bazel finds its files. Without it, `TEST_TIMEOUT` and those below it have no effect,
/// but for `TEST_TMPDIR`, `TEST_UNDECLARED_OUTPUTS_DIR` and `XML_OUTPUT_FILE`.
pub const TEST_SRCDIR: &str = "TEST_SRCDIR";

/// The time limit of a test, in seconds. Test programs end their run shortly before. Bazel sets it, as
/// it does with all variables whose names begin with `TEST`.
pub const TEST_TIMEOUT: &str = "TEST_TIMEOUT";

/// Where a test may write; there is the cache of images when it can be nowhere else.
pub const TEST_TMPDIR: &str = "TEST_TMPDIR";

/// A filter of tests, as an argument of the test program would be; from Bazel's `--test_filter`.
pub const TESTBRIDGE_TEST_ONLY: &str = "TESTBRIDGE_TEST_ONLY";

/// With `1`, no test is begun after the first that fails; from Bazel's `--test_runner_fail_fast`.
pub const TESTBRIDGE_TEST_RUNNER_FAIL_FAST: &str = "TESTBRIDGE_TEST_RUNNER_FAIL_FAST";

/// Into how many parts the tests are divided; from `shard_count` of a target of Bazel.
pub const TEST_TOTAL_SHARDS: &str = "TEST_TOTAL_SHARDS";

/// Which of the parts is run, from 0.
pub const TEST_SHARD_INDEX: &str = "TEST_SHARD_INDEX";

/// A file that is made to say that the tests were divided.
pub const TEST_SHARD_STATUS_FILE: &str = "TEST_SHARD_STATUS_FILE";

/// A file that a test program creates when it starts its run, and removes when the run has ended in order. When
/// Bazel finds it after the test, the test has failed, whatever its exit status was.
pub const TEST_PREMATURE_EXIT_FILE: &str = "TEST_PREMATURE_EXIT_FILE";

/// Where logs go when `--out` is not given. Bazel sets it.
pub const TEST_UNDECLARED_OUTPUTS_DIR: &str = "TEST_UNDECLARED_OUTPUTS_DIR";

/// A file that JUnit XML is written to as well. Bazel sets it.
pub const XML_OUTPUT_FILE: &str = "XML_OUTPUT_FILE";

/// See `STEADING_CACHE_DIR`. A path that is not absolute is ignored.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";

/// See `STEADING_CACHE_DIR`. A path that is not absolute is ignored.
pub const HOME: &str = "HOME";

/// Where groups that have no namespaces have a directory each; else `/tmp`. It must be this user's own.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// Where `qemu-system-x86_64`, `qemu-img` and dnsmasq are looked for.
pub const PATH: &str = "PATH";

/// The kind of this terminal, which `ssh` passes on to the guest; `vt100` when it is not set. With
/// `dumb`, or nothing, no line moves.
pub const TERM: &str = "TERM";

/// With anything in it, no output has colours. Lines that move still do.
pub const NO_COLOR: &str = "NO_COLOR";

/// With anything but `0`, output has colours even where it goes to no terminal.
pub const CLICOLOR_FORCE: &str = "CLICOLOR_FORCE";

// ## Set for a program under `steading run`

/// The group's name.
pub const STEADING_GROUP: &str = "STEADING_GROUP";

/// The domain of the group: the VM `n1` is `n1.$STEADING_DOMAIN` to the group's name server.
pub const STEADING_DOMAIN: &str = "STEADING_DOMAIN";

/// Where the group's logs are.
pub const STEADING_LOG_DIR: &str = "STEADING_LOG_DIR";

/// A JSON file with all of the plan, as `steading plan --json` prints it.
pub const STEADING_FACTS: &str = "STEADING_FACTS";

/// A file with the private key for root in guests, in OpenSSH's format.
pub const STEADING_SSH_KEY: &str = "STEADING_SSH_KEY";

/// A file with the certificate of the group's authority, in PEM: what is to be trusted.
pub const STEADING_CA: &str = "STEADING_CA";

/// Followed by the name of a VM, in capitals and with `_` for each character that is neither letter
/// nor digit: its IPv6 address. That of `node-1` is in `STEADING_VM_NODE_1`.
pub const STEADING_VM_PREFIX: &str = "STEADING_VM_";

// ## Set for every program in a group, test functions among them

/// Where the group's control API listens.
pub const STEADING_SOCKET: &str = "STEADING_SOCKET";

/// Which attempt at its test a function is, from 1. Not set under `steading run`.
pub const STEADING_ATTEMPT: &str = "STEADING_ATTEMPT";

/// A mark by which what a program leaves running is found and ended.
pub const STEADING_JOB: &str = "STEADING_JOB";

/// Where a group has no namespaces: which process is its owner, by which `steading gc` finds what outlived a
/// driver that was killed.
pub const STEADING_OWNER: &str = "STEADING_OWNER";
