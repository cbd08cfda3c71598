//! What processes take, by `/proc`.

use anyhow::Context as _;
use fs_err as fs;

/// One process, or the sum of several.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) pss_kib: u64,
    pub(crate) private_kib: u64,
    pub(crate) cpu_ticks: u64,
}

impl Taken {
    pub(crate) fn add(&mut self, other: Self) {
        self.pss_kib += other.pss_kib;
        self.private_kib += other.private_kib;
        self.cpu_ticks += other.cpu_ticks;
    }
}

/// The children of all threads of a process.
pub(crate) fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(found)
}

/// See proc_pid_smaps(5) and proc_pid_stat(5).
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Taken> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let sum = |keys: &[&str]| -> u64 {
        let fields = smaps.lines().filter_map(|line| {
            let (key, rest) = line.split_once(':')?;
            keys.contains(&key).then(|| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())?
        });
        fields.sum()
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // Fields 14 and 15, of which the third is the first after the name.
    let cpu_ticks = ticks(11) + ticks(12);
    Ok(Taken { pss_kib: sum(&["Pss"]), private_kib: sum(&["Private_Clean", "Private_Dirty"]), cpu_ticks })
}
