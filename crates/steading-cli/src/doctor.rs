//! `steading doctor`: checks what this host supports, by trying it.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;
use steading_harness::{chain, exit_code, prepare};
use steading_plan::{Acceleration, Engine};
use steading_report::output::println;
use steading_sys::inherited::check_files;
use steading_sys::process::{RunError, run};
use steading_sys::{namespace, tap};
use steading_vm::engine::{FIRMWARE_CODE, QEMU, QEMU_PACKAGE, choose_acceleration};
use steading_vm::image::{ImageCache, free_bytes};

/// Below this a testnet of a few small guests does not fit, in MiB.
const LITTLE_MEMORY: u64 = 2048;
/// Below this images and overlays soon fill the disk, in GiB.
const LITTLE_DISK: u64 = 5;
/// A group of many VMs holds some dozen descriptors for each.
const FEW_FILES: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckResult {
    /// It works.
    Good,
    /// It works with limits, or something optional is missing.
    Fair,
    /// It does not work, and without it no group can be brought up.
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: CheckResult,
    /// The result.
    found: String,
    /// What it is needed for, as an infinitive.
    means: &'static str,
    /// How to fix it.
    hint: Option<String>,
}

pub(crate) fn examine(json: bool, kernel: Option<&Utf8Path>) -> anyhow::Result<u8> {
    // Namespaces come first: they are tried while there is one thread.
    let mut items = vec![
        namespaces(),
        launcher(),
        faults(),
        tun(),
        program("QEMU", QEMU, QEMU_PACKAGE, "run the VMs"),
        program("dnsmasq", "dnsmasq", "dnsmasq-base", "give guests their addresses and names"),
        qemu_img(),
    ];
    items.extend(other_engines());
    items.extend([firmware(), kvm(kernel), memory(), disk(), open_files()]);
    if json {
        println!("{}", serde_json::to_string_pretty(&items)?);
    } else {
        items.iter().for_each(show);
    }
    let is_bad = items.iter().any(|item| item.verdict == CheckResult::Bad);
    Ok(if is_bad { exit_code::HOST } else { exit_code::PASSED })
}

fn show(item: &Check) {
    let mark = match item.verdict {
        CheckResult::Good => "good",
        CheckResult::Fair => "fair",
        CheckResult::Bad => "BAD ",
    };
    println!("{mark}  {:<12} {}", item.what, item.found.lines().next().unwrap_or_default());
    if item.verdict != CheckResult::Good {
        println!("      {:<12} needed to {}", "", item.means);
    }
    if let Some(hint) = &item.hint {
        println!("      {:<12} hint: {hint}", "");
    }
}

/// The check of something that was tried; the hint comes from the error.
fn tried(
    what: &'static str,
    means: &'static str,
    outcome: Result<String, String>,
    failed: CheckResult,
) -> Check {
    match outcome {
        Ok(found) => Check { what, verdict: CheckResult::Good, found, means, hint: None },
        Err(error) => {
            let (found, hint) = match error.split_once("\nhint: ") {
                Some((found, hint)) => (found.to_owned(), Some(hint.replace("\nhint: ", "; "))),
                None => (error, None),
            };
            Check { what, verdict: failed, found, means, hint }
        }
    }
}

fn namespaces() -> Check {
    let outcome = namespace::probe().map(|()| "user, network, PID and mount namespaces work".to_owned());
    let means = "give each group its own network, and end all its processes with it";
    // The launcher is the other way to a network.
    let failed = if working_launcher().is_some_and(|found| found.is_ok()) {
        CheckResult::Fair
    } else {
        CheckResult::Bad
    };
    tried("namespaces", means, outcome.map_err(|error| error.to_string()), failed)
}

/// The launcher, if there is one, or why it does not work.
fn working_launcher() -> Option<Result<Utf8PathBuf, RunError>> {
    let launcher = prepare::find_launcher()?;
    Some(run(launcher.as_str(), "steading", ["check"]).map(|_| launcher))
}

/// It matters where there are no namespaces only.
fn launcher() -> Check {
    let means = "make the networks of groups on hosts without namespaces (--isolation launcher)";
    let needless = "not needed: namespaces work";
    match (working_launcher(), namespace::probe().is_ok()) {
        (Some(Ok(launcher)), _) => tried("launcher", means, Ok(launcher.into_string()), CheckResult::Good),
        (_, true) => tried("launcher", means, Ok(needless.to_owned()), CheckResult::Good),
        (Some(Err(error)), false) => tried("launcher", means, Err(chain(&error)), CheckResult::Bad),
        (None, false) => {
            let error = "not installed\nhint: install steading-launcher (see docs/guide/launcher.md)";
            tried("launcher", means, Err(error.to_owned()), CheckResult::Bad)
        }
    }
}

fn faults() -> Check {
    let outcome = match prepare::probe_faults() {
        Some(true) => Ok("the kernel can drop frames on a bridge".to_owned()),
        Some(false) => Err(
            "the kernel does not support rules for bridges\nhint: as root: modprobe nf_tables nft_numgen \
                            (CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_NUMGEN)"
                .to_owned(),
        ),
        None => Err("cannot be tried without namespaces".to_owned()),
    };
    tried("faults", "make faults of the network between VMs; optional", outcome, CheckResult::Fair)
}

fn tun() -> Check {
    let outcome = tap::open_device().map(|_| "/dev/net/tun can be opened".to_owned());
    let means = "make the host side of the VMs' network cards";
    tried("tun", means, outcome.map_err(|error| error.to_string()), CheckResult::Bad)
}

fn program(what: &'static str, program: &str, package: &'static str, means: &'static str) -> Check {
    let outcome = run(program, package, ["--version"]).map_err(|error| error.to_string());
    let first =
        outcome.map(|said| String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned());
    tried(what, means, first, CheckResult::Bad)
}

/// An optional program.
fn optional(what: &'static str, name: &str, package: &'static str, means: &'static str) -> Check {
    let mut item = program(what, name, package, means);
    if item.verdict == CheckResult::Bad {
        item.verdict = CheckResult::Fair;
    }
    item
}

fn qemu_img() -> Check {
    optional("qemu-img", "qemu-img", "qemu-utils", "unpack qcow2 images; other formats need no program")
}

/// The programs of engines other than the default one.
fn other_engines() -> Vec<Check> {
    let others = Engine::ALL.into_iter().filter(|engine| *engine != Engine::default());
    let programs =
        others.flat_map(|engine| engine.capabilities().programs.iter().map(move |needed| (engine, needed)));
    programs
        .map(|(engine, needed)| {
            optional(engine.as_str(), needed.program, needed.package, "run the VMs with another --engine")
        })
        .collect()
}

fn firmware() -> Check {
    let outcome = match fs::metadata(FIRMWARE_CODE) {
        Ok(_) => Ok(FIRMWARE_CODE.to_owned()),
        Err(error) => Err(format!("{error}\nhint: on Debian: apt-get install ovmf")),
    };
    tried(
        "OVMF",
        "boot guests by UEFI; BIOS and direct kernel boot do not need it",
        outcome,
        CheckResult::Fair,
    )
}

fn kvm(kernel: Option<&Utf8Path>) -> Check {
    let reference = steading::reference::guest().ok().map(|guest| guest.kernel());
    let kernel = kernel.or(reference.as_deref());
    let choice = choose_acceleration(&ImageCache::default_dir(), kernel);
    let outcome = match choice.acceleration {
        Acceleration::Kvm => Ok(choice.reason),
        Acceleration::Tcg => Err(format!(
            "{}\nhint: guests are emulated, which is several times slower; give this user access to /dev/kvm (group kvm) \
             on a host whose KVM works",
            choice.reason
        )),
    };
    tried(
        "KVM",
        "run guests at the speed of the host; checked by booting a kernel",
        outcome,
        CheckResult::Fair,
    )
}

fn memory() -> Check {
    let has = prepare::host_resources();
    let found = format!("{} MiB of memory, {} CPUs", has.memory_mib, has.cpus);
    let outcome = if has.memory_mib >= LITTLE_MEMORY {
        Ok(found)
    } else {
        Err(format!("{found}\nhint: declare small guests, or use a larger machine"))
    };
    tried("memory", "run the VMs of a testnet", outcome, CheckResult::Fair)
}

fn disk() -> Check {
    let dir = ImageCache::default_dir();
    // The cache may not have been made yet.
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir);
    let outcome = match free_bytes(existing) {
        Ok(free) if free >> 30 >= LITTLE_DISK => Ok(format!("{} GiB free for {dir}", free >> 30)),
        Ok(free) => Err(format!(
            "{} MiB free for {dir}\nhint: free some space, or set STEADING_CACHE_DIR to a directory with more",
            free >> 20
        )),
        Err(error) => Err(error.to_string()),
    };
    tried("disk", "hold unpacked images and the overlays of VMs", outcome, CheckResult::Fair)
}

fn open_files() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Err(error) = check_files() {
        return tried("limits", "run many VMs in one group", Err(error.to_string()), CheckResult::Bad);
    }
    let outcome = match limit {
        Some(limit) if limit < FEW_FILES => {
            Err(format!("at most {limit} open files\nhint: ulimit -n {}", FEW_FILES * 4))
        }
        Some(limit) => Ok(format!("at most {limit} open files")),
        None => Ok("unlimited open files".to_owned()),
    };
    tried("limits", "run many VMs in one group", outcome, CheckResult::Fair)
}
