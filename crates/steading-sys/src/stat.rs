//! What the kernel tells of a process or a thread in one line (proc_pid_stat(5)).

use fs_err as fs;

/// That line, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// What it does, as a letter.
    pub state: char,
    /// The CPU time that it has taken, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since the kernel did.
    pub start: u64,
}

impl Stat {
    /// Of a process, if `/proc` shows it.
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Of the threads of a process.
    pub fn of_threads(pid: i32) -> impl Iterator<Item = Self> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads.filter_map(|thread| Self::parse(&fs::read_to_string(thread.path().join("stat")).ok()?))
    }

    /// Reads the line.
    pub fn parse(text: &str) -> Option<Self> {
        // The name may hold anything; the last parenthesis closes it.
        let (head, tail) = text.rsplit_once(") ")?;
        let pid = head.split_once(" (")?.0.parse().ok()?;
        let mut fields = tail.split_ascii_whitespace();
        // Fields 3, 4, 14, 15 and 22.
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let user: u64 = fields.nth(14 - 5)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let start = fields.nth(22 - 16)?.parse().ok()?;
        Some(Self { pid, parent, state, ticks: user + system, start })
    }

    /// Whether it has ended, even if its parent has not waited for it yet.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether it runs, or waits for a CPU.
    pub fn is_runnable(&self) -> bool {
        self.state == 'R'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let text = format!("7 (a) R (b) Z {} 42 0\n", "1 ".repeat(18).trim_end());
        let stat = Stat { pid: 7, parent: 1, state: 'Z', ticks: 2, start: 42 };
        assert!(stat.has_ended());
        assert_eq!(Stat::parse(&text), Some(stat));
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn state_and_cpu_time_are_found_behind_any_name() {
        let stat = "42 (vm-a) 1 2) R 1 42 42 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 4 0 100 1 2";
        let stat = Stat::parse(stat).expect("it is one");
        assert_eq!((stat.state, stat.ticks), ('R', 100));
        assert!(stat.is_runnable());
        assert!(Stat::parse("42 (vm-a) S 1").is_none());
    }
}
