//! Warm starts: a booted testnet is frozen into a cache, and later runs start from it.
//!
//! An entry is a directory named after a key of everything that affects its boot. A process that finds none
//! takes the lock of the entry, boots, and stores the booted testnet; other processes wait for the lock. An
//! entry is used in place, after a check that every file is as it was written. An entry that is damaged,
//! incomplete or of another user is reported, and replaced by a cold start.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;
use steading_api::{Client, FreezeRequest, GuestCommand};
use steading_group::OpenedGroup;
use steading_group::stored::{open_directory, write_directory};
use steading_logs::VmEvent;
use steading_plan::{Acceleration, Boot, Handle, Plan, Sha256, VariableError, env_vars, integer_variable};
use steading_report::{Event, Report, VmSign};
use steading_vm::engine::{FIRMWARE_VARS, PreparedVm, cpu};
use steading_vm::image::{ImageCache, Lock, touch, touched};

use crate::environment::variable;
use crate::event_loop::wait_for;
use crate::frozen;
use crate::watch::{News, Watch, redrawing};

/// The limit of the cache unless `$STEADING_WARM_MIB` says otherwise, in MiB.
const LIMIT_MIB: u64 = 4096;

/// How long guests can take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// How long the agent of a guest that answers may take to say that all is started. One without an
/// agent is kept as it is then.
const STARTED_LIMIT: Duration = Duration::from_secs(30);

/// The place of one booted testnet in the cache. It is locked.
pub(crate) struct WarmEntry {
    cache: Utf8PathBuf,
    key: Sha256,
    _lock: Lock,
}

impl WarmEntry {
    /// The entry for this testnet; `waiting` is called if somebody else boots it just now.
    pub(crate) fn lock(
        plan: &Plan,
        prepared: &[PreparedVm],
        waiting: &mut dyn FnMut(),
    ) -> anyhow::Result<Self> {
        let cache = cache_dir();
        make_private(&cache).with_context(|| format!("cannot create the directory {cache}"))?;
        let key = key(plan, prepared)?;
        let lock = Lock::take(&cache, &lock_name(&key.to_string()), waiting)
            .with_context(|| format!("cannot lock the warm start {key} in {cache}"))?;
        let entry = Self { cache, key, _lock: lock };
        // Who was killed while writing held this lock.
        remove(&entry.aside())?;
        Ok(entry)
    }

    /// The booted testnet, if it was kept before; else a cold start is due. An error says why what is
    /// there cannot be used.
    pub(crate) fn open(&self, plan: &Plan, prepared: &[PreparedVm]) -> anyhow::Result<Option<OpenedGroup>> {
        if !self.path().exists() {
            return Ok(None);
        }
        let mut opened = open_directory(&self.path())?;
        let kept = &opened.description().plan;
        anyhow::ensure!(unmeasured(kept) == unmeasured(plan), "{} belongs to another testnet", self.path());
        if let Some(error) = kept.qemu.clock_error(plan.qemu.tsc_mhz) {
            anyhow::bail!("its guests' clocks would run at {error:.3} times the real rate here");
        }
        opened.complete(plan, prepared)?;
        touch(&self.cache, &lock_name(&self.key.to_string()));
        Ok(Some(opened))
    }

    /// Forgets what is there.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        remove(&self.path())
    }

    /// Waits until the testnet has booted, and keeps it. It goes on meanwhile.
    pub(crate) fn keep(&self, client: &Client, report: &Report) -> anyhow::Result<()> {
        const ID: &str = "warm-start";
        let request = FreezeRequest { id: Some(ID.to_owned()), ..FreezeRequest::default() };
        let request = request.settled_within(frozen::SETTLE_LIMIT);
        let opened = wait_for(async {
            tokio::time::timeout(BOOT_LIMIT, booted(client, report))
                .await
                .context("not all guests booted in time")??;
            client.freeze(&request).await?;
            let opened = frozen::open(client, ID).await?;
            client.forget(ID).await?;
            Ok(opened)
        })?;
        let aside = self.aside();
        make_private(&aside)?;
        // What is in the image cache, or was named by the testnet, is there at the next start, too.
        let written = write_directory(&opened, &aside, |handle| {
            !matches!(handle, Handle::Image | Handle::Kernel | Handle::Initrd)
        });
        if let Err(error) = written {
            let _ = remove(&aside);
            return Err(error.into());
        }
        fs::rename(&aside, self.path())?;
        touch(&self.cache, &lock_name(&self.key.to_string()));
        collect(limit()?, Some(&self.key.to_string()))?;
        Ok(())
    }

    fn path(&self) -> Utf8PathBuf {
        self.cache.join(self.key.to_string())
    }

    fn aside(&self) -> Utf8PathBuf {
        self.cache.join(format!(".new-{}", self.key))
    }
}

/// Waits until every VM that was started has booted.
async fn booted(client: &Client, report: &Report) -> anyhow::Result<()> {
    let mut watch = Watch::begin(client).await?;
    let status = client.status().await?;
    let mut left: Vec<String> =
        status.plan.vms.iter().filter(|vm| vm.spec.autostart).map(|vm| vm.name.to_string()).collect();
    let all = left.clone();
    while !left.is_empty() {
        let (vm, sign) = match redrawing(report, watch.next()).await.context("the group has ended")? {
            News::Vm(vm, sign) => (vm, sign),
            News::Problem(message) => {
                report.tell(&Event::Warning { message });
                continue;
            }
        };
        // Nobody else listens yet.
        report.tell(&Event::Vm { vm: vm.clone(), sign: sign.clone() });
        match sign {
            VmSign::Event(VmEvent::Answering) => left.retain(|name| *name != vm),
            VmSign::Event(VmEvent::Off { reason }) => anyhow::bail!("VM {vm} is off: {reason}"),
            _ => {}
        }
    }
    let started = all.iter().map(async |vm| {
        let command = GuestCommand {
            line: "systemctl is-system-running --wait".to_owned(),
            limit_ms: u64::try_from(STARTED_LIMIT.as_millis()).unwrap_or(u64::MAX),
        };
        // It is degraded where a unit failed, and has no agent or no systemd in other guests.
        let _ = client.agent(vm, &command).await;
    });
    futures::future::join_all(started).await;
    Ok(())
}

/// Everything that shapes a booted testnet.
#[derive(Serialize)]
struct EntryKey {
    version: u32,
    steading: &'static str,
    plan: Plan,
    images: Vec<Option<Sha256>>,
    /// Programs, firmware, kernels, files of configuration.
    files: Vec<FileIdentity>,
    /// Under KVM guests see the host's own.
    cpu: Option<String>,
}

/// The plan as far as it is the same each time.
fn unmeasured(plan: &Plan) -> Plan {
    Plan { qemu: plan.qemu.unmeasured(), ..plan.clone() }
}

/// What identifies an unchanged file.
#[derive(Serialize)]
struct FileIdentity {
    path: Utf8PathBuf,
    place: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(path: &Utf8Path) -> anyhow::Result<Self> {
        let data = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            place: (data.dev(), data.ino()),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

fn key(plan: &Plan, prepared: &[PreparedVm]) -> anyhow::Result<Sha256> {
    let mut paths = vec![Utf8PathBuf::from(plan.qemu.firmware_code.clone()), FIRMWARE_VARS.into()];
    paths.retain(|path| path.exists());
    let qemu = steading_sys::search::find(&plan.qemu.program);
    paths.extend(qemu.and_then(|file| Utf8PathBuf::try_from(file).ok()));
    paths.extend(plan.files.iter().map(|file| file.path.clone()));
    for vm in &plan.vms {
        if let Boot::Kernel { kernel, initrd, .. } = &vm.spec.boot {
            paths.push(kernel.clone());
            paths.extend(initrd.clone());
        }
        if let Some(directory) = &vm.spec.config.config_dir {
            paths.extend(files_below(directory)?);
        }
    }
    let cpu = (plan.qemu.acceleration == Acceleration::Kvm).then(host_cpu);
    let shape = EntryKey {
        version: steading_group::FROZEN_VERSION,
        steading: env!("CARGO_PKG_VERSION"),
        plan: unmeasured(plan),
        images: prepared.iter().map(PreparedVm::image_digest).collect(),
        files: paths.iter().map(|path| FileIdentity::of(path)).collect::<Result<_, _>>()?,
        cpu,
    };
    Ok(Sha256::of(serde_json::to_vec(&shape)?))
}

fn files_below(directory: &Utf8Path) -> anyhow::Result<Vec<Utf8PathBuf>> {
    let mut found = vec![directory.to_owned()];
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in directory.read_dir_utf8().with_context(|| format!("cannot read {directory}"))? {
            let path = entry?.into_path();
            if fs::symlink_metadata(&path)?.is_dir() {
                left.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What guests see of the host under KVM: its CPU, as its kernel shows it.
fn host_cpu() -> String {
    format!("{}\n{}", cpu(), steading_sys::sysctl::read("kernel/osrelease").unwrap_or_default())
}

/// One cached testnet, for a list.
#[derive(Debug)]
pub struct WarmStart {
    /// Its key in the cache.
    pub key: String,
    /// The group's name, if its index can be read.
    pub group: Option<String>,
    /// Its size on the file system, in bytes.
    pub bytes: u64,
    /// When a run last started from it.
    pub used: SystemTime,
}

/// Returns the cached testnets, the least recently used first.
///
/// # Errors
///
/// When the cache cannot be read.
pub fn list() -> anyhow::Result<Vec<WarmStart>> {
    let cache = cache_dir();
    let mut kept = Vec::new();
    let entries = match cache.read_dir_utf8() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(kept),
        entries => entries.with_context(|| format!("cannot read {cache}"))?,
    };
    for entry in entries {
        let entry = entry?;
        let key = entry.file_name().to_owned();
        if key.parse::<Sha256>().is_err() {
            continue;
        }
        let path = entry.into_path();
        let used = touched(&cache, &lock_name(&key)).unwrap_or(SystemTime::UNIX_EPOCH);
        kept.push(WarmStart { key, group: group_of(&path), bytes: allocated(&path)?, used });
    }
    kept.sort_by_key(|kept| kept.used);
    Ok(kept)
}

fn group_of(path: &Utf8Path) -> Option<String> {
    let text = fs::read_to_string(path.join("frozen")).ok()?;
    let index: serde_json::Value = serde_json::from_str(text.split_once('\n')?.1).ok()?;
    Some(index.get("group")?.get("plan")?.get("group")?.as_str()?.to_owned())
}

/// Removes the least recently used testnets until the cache has at most `limit` bytes, but not `spared`.
/// Running groups are not affected. Returns what was removed.
///
/// # Errors
///
/// When something cannot be removed.
pub fn collect(limit: u64, spared: Option<&str>) -> anyhow::Result<Vec<WarmStart>> {
    let cache = cache_dir();
    let kept = list()?;
    let mut taken: u64 = kept.iter().map(|kept| kept.bytes).sum();
    let mut removed = Vec::new();
    for kept in kept {
        if taken <= limit {
            break;
        }
        if spared == Some(kept.key.as_str()) {
            continue;
        }
        // Whoever holds its lock is about to use it, or writes it.
        let Some(lock) = Lock::try_take(&cache, &lock_name(&kept.key))? else { continue };
        remove(&cache.join(&kept.key))?;
        lock.remove();
        taken -= kept.bytes;
        removed.push(kept);
    }
    Ok(removed)
}

/// Returns the limit of the cache in bytes.
///
/// # Errors
///
/// When `$STEADING_WARM_MIB` is not an integer.
pub fn limit() -> Result<u64, VariableError> {
    let mib = integer_variable(env_vars::STEADING_WARM_MIB, &variable)?;
    Ok(mib.unwrap_or(LIMIT_MIB) << 20)
}

fn cache_dir() -> Utf8PathBuf {
    ImageCache::default_dir().join(format!("warm-{}", rustix::process::geteuid().as_raw()))
}

fn lock_name(key: &str) -> String {
    format!("{key}.lock")
}

fn allocated(directory: &Utf8Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in directory.read_dir_utf8()? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

/// For this user alone: who may read it may log in to guests.
fn make_private(directory: &Utf8Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Removes an entry; in one step for those who look for it.
fn remove(directory: &Utf8Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use steading_plan::{HostFacts, ImageSource, Testnet, VmSpec};

    use super::*;

    /// A testnet on a host whose counter was found to count so often.
    fn plan(tsc_mhz: Option<u32>) -> Plan {
        let mut facts = HostFacts::default();
        facts.qemu.tsc_mhz = tsc_mhz;
        let testnet = Testnet::new().vm(VmSpec::new("n1", Boot::Bios).disk(ImageSource::new("/disk")));
        Plan::derive(&"etcd".parse().unwrap(), &testnet, &facts).unwrap()
    }

    #[test]
    fn what_is_measured_anew_each_time_is_not_in_the_key() {
        let key_of = |tsc_mhz| key(&plan(tsc_mhz), &[]).unwrap();
        assert_eq!(key_of(Some(2445)), key_of(Some(2446)));
        assert_eq!(key_of(Some(2445)), key_of(None));
        let mut other = plan(Some(2445));
        other.qemu.acceleration = Acceleration::Kvm;
        assert_ne!(key(&other, &[]).unwrap(), key_of(Some(2445)));
    }
}
