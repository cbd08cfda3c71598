//! The resources of this machine that this process can use.

use camino::Utf8Path;
use fs_err as fs;
use steading_plan::HostResources;

/// Where control groups are mounted (cgroups(7)).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Returns what this process can use: CPUs by its affinity and its control group, and the whole
/// memory of the machine or of its control group, used or not.
pub fn host_resources() -> HostResources {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let total = meminfo_mib("MemTotal:").unwrap_or(u64::MAX);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = cgroup_limit(&own, &|path| fs::read_to_string(Utf8Path::new(CGROUPS).join(path)).ok());
    HostResources { cpus, memory_mib: limit.map_or(total, |bytes| total.min(bytes >> 20)) }
}

/// Memory that is free, or can be freed, in MiB.
pub(crate) fn available_memory_mib() -> u64 {
    meminfo_mib("MemAvailable:").unwrap_or(u64::MAX)
}

/// A line of proc_meminfo(5).
fn meminfo_mib(key: &str) -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

/// The narrowest limit of memory, in bytes, of a control group and those around it; `own` is
/// `/proc/self/cgroup`. In a container its path may be that of the host, which cannot be seen there;
/// then the files at the root are the container's.
fn cgroup_limit(own: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        // Version 2 has one hierarchy, without controllers' names; version 1 has one for memory.
        let (mount, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => ("memory/", "memory.limit_in_bytes"),
            _ => continue,
        };
        let around = Utf8Path::new(path.trim_start_matches('/')).ancestors();
        limits.extend(around.filter_map(|group| {
            read(format!("{mount}{group}/{file}").replace("//", "/").trim_start_matches('/'))
        }));
    }
    limits.iter().filter_map(|limit| limit.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(own: &str, files: &[(&str, &str)]) -> Option<u64> {
        cgroup_limit(own, &|path| {
            let path = path.trim_start_matches('/');
            files.iter().find(|(name, _)| *name == path).map(|(_, text)| format!("{text}\n"))
        })
    }

    #[test]
    fn the_narrowest_of_all_groups_around_counts() {
        let files = [("a/b/memory.max", "max"), ("a/memory.max", "4096"), ("memory.max", "9999")];
        assert_eq!(limit("0::/a/b\n", &files), Some(4096));
        assert_eq!(limit("0::/c\n", &files), Some(9999));
        assert_eq!(limit("0::/\n", &[]), None);
    }

    #[test]
    fn version_1_has_a_hierarchy_of_its_own_for_memory() {
        let own = "9:cpu,cpuacct:/x\n8:memory:/y\n0::/\n";
        assert_eq!(limit(own, &[("memory/y/memory.limit_in_bytes", "77")]), Some(77));
        let unlimited = [("memory/memory.limit_in_bytes", "9223372036854771712")];
        assert_eq!(limit(own, &unlimited), Some(9_223_372_036_854_771_712));
    }

    #[test]
    fn this_machine_has_something() {
        let has = host_resources();
        assert!(has.cpus > 0 && has.memory_mib > 0);
    }
}
