//! What testnets were measured to take, next to what they declare: a small file for each.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steading_plan::{Plan, Resources, Sha256};

/// The version of the file.
const VERSION: u32 = 1;

/// How many testnets are kept; tests of tests give groups a new name each time.
const KEPT: usize = 200;

/// How the files end.
const SUFFIX: &str = ".peak.json";

/// What one run of a testnet took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Memory, in MiB: the sum over its VMs of the most that the QEMU process of each had.
    pub memory_mib: u64,
    /// CPU time of its VMs, in milliseconds.
    pub cpu_ms: u64,
    /// How long it was up, in milliseconds.
    pub up_ms: u64,
}

/// What is known of a testnet from its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    #[serde(rename = "steading_peak")]
    version: u32,
    /// The group's name.
    pub group: String,
    /// What it declares.
    pub declared: Resources,
    /// Runs that were measured.
    pub runs: u64,
    /// The most memory that a run took, in MiB.
    pub memory_mib: u64,
    /// The memory that the last one took, in MiB.
    pub last_memory_mib: u64,
    /// The most CPUs that a run kept busy, on average.
    pub cpus: f64,
    /// When the last one ended.
    pub at: Timestamp,
}

/// Where the files of this user are within the directory of unpacked images.
fn directory(cache: &Utf8Path) -> Utf8PathBuf {
    cache.join(format!("peaks-{}", rustix::process::geteuid().as_raw()))
}

/// The file of a testnet: the same group with the same VMs.
fn file(cache: &Utf8Path, plan: &Plan) -> Utf8PathBuf {
    let vms: Vec<String> =
        plan.vms.iter().map(|vm| format!("{} {} {}", vm.name, vm.spec.vcpus, vm.spec.memory_mib)).collect();
    let digest = Sha256::of(format!("{}\n{}", plan.group, vms.join("\n")));
    directory(cache).join(format!("{:.16}{SUFFIX}", digest.to_string()))
}

/// What is known of this testnet.
pub fn peak_of(cache: &Utf8Path, plan: &Plan) -> Option<Peak> {
    read(&file(cache, plan))
}

impl Peak {
    /// Where the measurements of this testnet are kept. To be asked for outside of the group: inside,
    /// ids may be others.
    pub fn path(cache: &Utf8Path, plan: &Plan) -> Utf8PathBuf {
        file(cache, plan)
    }
}

/// Adds a run to what is known of a testnet.
///
/// # Errors
///
/// When the file cannot be written.
pub fn record(path: &Utf8Path, plan: &Plan, measured: Measured) -> io::Result<()> {
    let before = read(path);
    let busy = busy_cpus(measured);
    let peak = Peak {
        version: VERSION,
        group: plan.group.to_string(),
        declared: plan.resources,
        runs: before.as_ref().map_or(0, |peak| peak.runs) + 1,
        memory_mib: before.as_ref().map_or(0, |peak| peak.memory_mib).max(measured.memory_mib),
        last_memory_mib: measured.memory_mib,
        cpus: before.as_ref().map_or(0.0, |peak| peak.cpus).max(busy),
        at: Timestamp::now(),
    };
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    // Of two runs that end at once, one counts.
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&aside, serde_json::to_vec_pretty(&peak)?)?;
    fs::rename(&aside, path)?;
    forget(directory);
    Ok(())
}

/// Removes the files of testnets that were measured longest ago, where there are too many.
fn forget(directory: &Utf8Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let dated =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())));
    let mut dated: Vec<_> = dated.collect();
    dated.sort();
    for (_, path) in dated.iter().take(dated.len().saturating_sub(KEPT)) {
        let _ = fs::remove_file(path);
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of runs are small")]
fn busy_cpus(measured: Measured) -> f64 {
    let cpus = measured.cpu_ms as f64 / (measured.up_ms.max(1)) as f64;
    (cpus * 100.0).round() / 100.0
}

/// All testnets of this user that were measured, the last first.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn list(cache: &Utf8Path) -> io::Result<Vec<Peak>> {
    let entries = match fs::read_dir(directory(cache)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.filter_map(|entry| Utf8PathBuf::try_from(entry.ok()?.path()).ok());
    let mut peaks: Vec<Peak> =
        paths.filter(|path| path.as_str().ends_with(SUFFIX)).filter_map(|path| read(&path)).collect();
    peaks.sort_by_key(|peak| std::cmp::Reverse(peak.at));
    Ok(peaks)
}

fn read(path: &Utf8Path) -> Option<Peak> {
    let peak: Peak = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (peak.version == VERSION).then_some(peak)
}

#[cfg(test)]
mod tests {
    use steading_plan::{Boot, HostFacts, ImageSource, Testnet, VmSpec};

    use super::*;

    fn plan(memory_mib: u32) -> Plan {
        let vm = VmSpec::new("n1", Boot::Bios).disk(ImageSource::new("/disk")).memory_mib(memory_mib);
        let facts = HostFacts::default();
        Plan::derive(&"etcd".parse().unwrap(), &Testnet::new().vm(vm), &facts).unwrap()
    }

    #[test]
    fn the_most_that_any_run_took_is_kept_for_each_testnet() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(dir.path()).unwrap();
        let plan = plan(512);
        assert_eq!(peak_of(cache, &plan), None);
        for memory_mib in [300, 200] {
            let measured = Measured { memory_mib, cpu_ms: 500, up_ms: 1000 };
            record(&Peak::path(cache, &plan), &plan, measured).unwrap();
        }
        let peak = peak_of(cache, &plan).unwrap();
        assert_eq!((peak.runs, peak.memory_mib, peak.last_memory_mib, peak.cpus), (2, 300, 200, 0.5));
        assert_eq!(peak_of(cache, &self::plan(1024)), None, "with other VMs it is another testnet");
        assert_eq!(list(cache).unwrap(), [peak]);
    }

    #[test]
    fn those_that_were_measured_longest_ago_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(dir.path()).unwrap();
        let old = directory(cache);
        fs::create_dir_all(&old).unwrap();
        for number in 0..KEPT {
            fs::write(old.join(format!("{number}{SUFFIX}")), "").unwrap();
        }
        record(&Peak::path(cache, &plan(512)), &plan(512), Measured::default()).unwrap();
        assert_eq!(fs::read_dir(&old).unwrap().count(), KEPT);
        assert!(peak_of(cache, &plan(512)).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(dir.path()).unwrap();
        let path = Peak::path(cache, &plan(512));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"steading_peak\": 9").unwrap();
        assert_eq!(peak_of(cache, &plan(512)), None);
        assert!(list(cache).unwrap().is_empty());
    }
}
