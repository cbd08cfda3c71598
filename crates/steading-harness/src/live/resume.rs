//! The command `resume FILE`: opens a testnet that was saved when a test failed.

use anyhow::{Context as _, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use fs_err as fs;
use steading_group::stored::Archive;
use steading_group::{FrozenGroup, OpenedGroup};
use steading_plan::{Acceleration, Handle, HostResources, ImageSource};
use steading_report::{Event, Report};
use steading_sys::tsc;
use steading_vm::engine::{FIRMWARE_CODE, cpu, prepare as prepare_vm, qemu_version};
use steading_vm::image::ImageCache;

use crate::bring_up::{bring_up_frozen, default_log_dir};
use crate::broker::{BrokerOptions, Copies, Reservation};
use crate::ending::fail;
use crate::frozen::ClockArg;
use crate::{prepare, run};

/// Options of `resume FILE`.
#[derive(Args, Clone, Debug)]
pub struct ResumeOptions {
    /// For a file: time that guests' clocks show.
    #[arg(long, value_enum, value_name = "TIME", default_value_t)]
    clock: ClockArg,
    /// For a file: directory for logs and for the original run [default: out/GROUP/TIME].
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Opens the testnet, and keeps it until Ctrl-C or `down`.
///
/// # Errors
///
/// When the file is damaged, or does not match this host.
pub(crate) fn resume(file: &Utf8Path, args: &ResumeOptions) -> anyhow::Result<u8> {
    let report = Report::new();
    let archive = Archive::open(file)?;
    let group = archive.description().clone();
    let name = group.plan.group.to_string();
    let warnings = check(&group, prepare::host_resources())
        .with_context(|| format!("cannot resume `{file}` on this host"))?;
    for message in warnings {
        report.tell(&Event::Warning { message });
    }
    let log_dir = args.out.clone().unwrap_or_else(|| default_log_dir(&name));
    let (scratch, log_dir) = prepare::directories(&log_dir)?;
    let run_dir = log_dir.join("run");
    fs::create_dir_all(&run_dir).context("cannot make the directory for the logs of the frozen run")?;
    report.tell(&Event::Warm { what: format!("unpacking {file}") });
    let mut opened = archive.unpack(&scratch, &run_dir)?;
    opened.boots_here(FIRMWARE_CODE, tsc::frequency_mhz());
    add_images(&mut opened)?;
    let frozen_at = group.frozen_at.strftime("%F %T UTC").to_string();
    let room = Reservation::Broker(&args.broker, Copies::One);
    let up = match bring_up_frozen(opened, &log_dir, args.clock.into(), room, &report) {
        Ok(up) => up,
        Err((code, error)) => return Ok(fail(&report, code, &error)),
    };
    report.tell(&Event::Warm { what: format!("continuing from {frozen_at}, when it was frozen") });
    match steading_report::write(&run_dir) {
        Ok(page) => {
            report.tell(&Event::Warm { what: format!("report of the original run: {page}") });
        }
        Err(error) => report.tell(&Event::Warning { message: steading_api::chain(&error) }),
    }
    Ok(run::stay(&name, up, &report))
}

/// Whether the testnet can go on here; with warnings, where that is not certain to go well.
fn check(group: &FrozenGroup, host: HostResources) -> anyhow::Result<Vec<String>> {
    group.plan.check(host)?;
    if group.plan.qemu.acceleration == Acceleration::Kvm {
        ensure!(
            fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
            "it ran under KVM, which does not work here\nhint: open it on a host with KVM and the same kind of CPU"
        );
        let (had, has) = (group.cpu.as_deref().unwrap_or_default(), cpu());
        ensure!(
            had == has,
            "it ran on another CPU model:\n{had}\nthis host has:\n{has}\nhint: under KVM guests see the host's own CPU; open it on a host with the same model"
        );
    }
    if group.vms.iter().all(|vm| vm.files.files.is_empty()) {
        return Ok(Vec::new());
    }
    let warnings = [other_qemu(group, &qemu_version()?)?, other_clock(group, tsc::frequency_mhz())];
    Ok(warnings.into_iter().flatten().collect())
}

/// The format of states is that of the machine type, which is named after two numbers of QEMU's version.
fn other_qemu(group: &FrozenGroup, has: &str) -> anyhow::Result<Option<String>> {
    let had = group.qemu_version.as_str();
    let kind = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    if kind(had) != kind(has) {
        bail!(
            "its VMs were frozen by QEMU {had}, but this host has QEMU {has}\nhint: open it on a host with QEMU {}",
            kind(had)
        );
    }
    let other = || {
        format!("its VMs were frozen by QEMU {had}, but this host has QEMU {has}; this works in most cases")
    };
    Ok((had != has).then(other))
}

fn other_clock(group: &FrozenGroup, here_mhz: Option<u32>) -> Option<String> {
    let error = group.plan.qemu.clock_error(here_mhz)?;
    Some(format!(
        "its guests calibrated the time stamp counter on another host: until they reboot, their clocks run at {error:.3} times the real rate"
    ))
}

/// Adds images that the file was written without, from this host.
fn add_images(opened: &mut OpenedGroup) -> anyhow::Result<()> {
    let group = opened.description().clone();
    let cache = ImageCache::open(&ImageCache::default_dir())?;
    for (at, vm) in group.plan.vms.iter().enumerate() {
        let Some(disk) = &vm.spec.disk else { continue };
        if opened.vms()[at].has(Handle::Image) {
            continue;
        }
        let mut vm = vm.clone();
        let sha256 = group.vms[at].image.or(disk.sha256);
        vm.spec.disk = Some(ImageSource { path: disk.path.clone(), sha256 });
        let prepared = prepare_vm(&vm, &cache, &mut |_| {}).with_context(|| {
            format!(
                "the file has no images, and the image of VM {} is missing on this host{}\nhint: put it at the path in the testnet, or write the file without --without-images",
                vm.name,
                sha256.map(|digest| format!(" (SHA-256 {digest})")).unwrap_or_default()
            )
        })?;
        opened.complete_vm(at, &vm, &prepared)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use steading_group::{AuthorityKey, FROZEN_VERSION, LoginKey};
    use steading_plan::{Boot, HostFacts, Plan, Testnet, VmSpec};

    use super::*;

    fn host(memory_mib: u64) -> HostResources {
        HostResources { cpus: 4, memory_mib }
    }

    fn group() -> FrozenGroup {
        let vm = VmSpec::new("n1", Boot::Bios).disk(ImageSource::new("/disk")).memory_mib(2048);
        let facts = HostFacts::default();
        let plan = Plan::derive(&"etcd".parse().unwrap(), &Testnet::new().vm(vm), &facts).unwrap();
        FrozenGroup {
            steading_frozen: FROZEN_VERSION,
            id: "failure".to_owned(),
            frozen_at: jiff::Timestamp::UNIX_EPOCH,
            plan,
            qemu_version: String::new(),
            cpu: None,
            key: LoginKey { private: String::new(), public: String::new() },
            values: HashMap::new(),
            faults: Vec::new(),
            files: Vec::new(),
            file_faults: Vec::new(),
            sources: Vec::new(),
            records: Vec::new(),
            resolvers: Vec::new(),
            authority: AuthorityKey { private: String::new(), certificate: String::new() },
            acme_accounts: Vec::new(),
            vms: Vec::new(),
        }
    }

    #[test]
    fn a_testnet_that_needs_more_memory_than_there_is_is_refused_with_the_sum() {
        let refused = check(&group(), host(1024)).unwrap_err().to_string();
        assert!(refused.contains("2048") && refused.contains("1024"), "{refused}");
    }

    #[test]
    fn a_testnet_of_another_cpu_is_refused_under_kvm_only() {
        let mut group = group();
        group.cpu = Some("model name: another".to_owned());
        group.plan.qemu.acceleration = Acceleration::Kvm;
        let refused = check(&group, host(1 << 20)).unwrap_err().to_string();
        assert!(refused.contains("KVM"), "{refused}");
    }

    #[test]
    fn another_frequency_of_the_counter_is_told_under_emulation_only() {
        let mut group = group();
        group.plan.qemu.tsc_mhz = Some(2000);
        assert_eq!(other_clock(&group, Some(2001)), None);
        assert_eq!(other_clock(&group, None), None);
        let told = other_clock(&group, Some(3000)).unwrap();
        assert!(told.contains("1.500 times"), "{told}");
        group.plan.qemu.acceleration = Acceleration::Kvm;
        assert_eq!(other_clock(&group, Some(3000)), None);
    }

    #[test]
    fn another_qemu_is_told_and_one_with_another_machine_is_refused() {
        let mut group = group();
        group.qemu_version = "7.2.22".to_owned();
        assert_eq!(other_qemu(&group, "7.2.22").unwrap(), None);
        assert!(other_qemu(&group, "7.2.23").unwrap().unwrap().contains("in most cases"));
        assert!(other_qemu(&group, "8.0.0").unwrap_err().to_string().contains("QEMU 7.2"));
    }
}
