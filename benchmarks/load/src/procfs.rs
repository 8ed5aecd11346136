//! What the server's processes cost, read from /proc.

use std::collections::HashMap;
use std::fs;

/// Linux reports CPU time in ticks of 10 ms on every architecture this runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// The cost so far of one process and all that descend from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// User and system time, of children that have ended too.
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
}

/// Reads the cost of a process and its descendants; those that end meanwhile count as nothing.
pub(crate) fn cost(root: u32) -> Cost {
    let mut sum = Cost::default();
    for pid in family(root) {
        let Some(stat) = Stat::read(pid) else { continue };
        sum.cpu_seconds += stat.ticks as f64 / TICKS_A_SECOND;
        sum.threads += stat.threads;
        sum.rss_bytes += resident(pid);
        sum.processes += 1;
    }
    sum
}

/// The CPU time of this program, in seconds.
pub(crate) fn own_cpu() -> f64 {
    Stat::read(std::process::id()).map_or(0.0, |stat| stat.ticks as f64 / TICKS_A_SECOND)
}

fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = Stat::read(pid)
        {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).into_iter().flatten());
        next += 1;
    }
    found
}

struct Stat {
    parent: u32,
    ticks: u64,
    threads: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is a name in parentheses, which may hold anything; the others are counted from its end.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            threads: number(17)?,
        })
    }
}

/// `statm` is kept in per-CPU counters and may be off by a few hundred KiB; the roll-up is exact.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let cost = cost(std::process::id());
        assert!(cost.rss_bytes > 100_000 && cost.threads >= 1 && cost.processes >= 1, "{cost:?}");
    }

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        let text = "7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 10 20 1 2 20 0 9 0 0 0 0";
        let stat = Stat::parse(text).expect("a whole line");
        assert_eq!((stat.parent, stat.ticks, stat.threads), (3, 33, 9));
    }
}
