//! What a relay costs: processor time, memory and descriptors, over all of its processes.

use std::collections::HashMap;
use std::fs;

/// What a process and its descendants have used or hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in seconds, also that of children that have ended.
    pub(crate) cpu: f64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Resident memory in KiB.
    pub(crate) memory: f64,
}

impl Usage {
    /// Of the processes with these ids and their descendants.
    ///
    /// Memory that processes share is counted in each of them.
    pub(crate) fn of(roots: &[u32]) -> Self {
        let all = processes();
        let mut usage = Self::default();
        for (pid, process) in &all {
            if !descends(*pid, roots, &all) {
                continue;
            }
            usage.cpu += process.ticks / TICKS_PER_SECOND;
            usage.memory += memory(*pid);
            usage.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        }
        usage
    }

    /// Only the processor time, which is quicker to learn.
    pub(crate) fn cpu(roots: &[u32]) -> f64 {
        let all = processes();
        let ticks = |(pid, process): (&u32, &Process)| {
            if descends(*pid, roots, &all) { process.ticks } else { 0.0 }
        };
        all.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
    }
}

#[derive(Debug)]
struct Process {
    parent: u32,
    ticks: f64,
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // Some end while they are counted.
    pids.filter_map(|pid| {
        Some((pid, process(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
    })
    .collect()
}

/// Reads a line of /proc/PID/stat; see proc(5).
fn process(stat: &str) -> Option<Process> {
    // The name, in brackets, may have blanks in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    // utime, stime, cutime, cstime
    let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(Process { parent, ticks })
}

fn descends(mut pid: u32, roots: &[u32], all: &HashMap<u32, Process>) -> bool {
    loop {
        if roots.contains(&pid) {
            return true;
        }
        match all.get(&pid) {
            Some(process) if process.parent != pid => pid = process.parent,
            Some(_) | None => return false,
        }
    }
}

/// In KiB. Not from /proc/PID/stat, which is out by up to half a MiB.
fn memory(pid: u32) -> f64 {
    let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0.0 };
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// USER_HZ, which is the same on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_hides_no_field() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 100 0 0 0 5 6 7 8 20 0 1 0 99";
        let process = process(line).unwrap();
        assert_eq!((process.parent, process.ticks), (3, 26.0));
    }

    #[test]
    fn this_process_holds_memory_and_descriptors() {
        let usage = Usage::of(&[std::process::id()]);
        assert!(usage.memory > 100.0 && usage.descriptors >= 3, "{usage:?}");
    }
}
