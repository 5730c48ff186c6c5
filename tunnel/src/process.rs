//! What Prometheus' users expect to know of every process, under the names that they expect.
//!
//! The crate `metrics-process` reads /proc/stat for the time of the start, and a unit with
//! `ProcSubset=pid` has none.

use std::fs;
use std::io;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::gauge;
use nix::sys::resource::{Resource, getrlimit};
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use crate::metrics as names;

/// Remembers the time as that of the process' start. Call it early.
pub fn start() {
    LazyLock::force(&STARTED);
}

/// Sets the metrics of this process as they are now. What cannot be read is left out.
pub fn sample() {
    gauge!(names::PROCESS_CPU).set(cpu_seconds());
    gauge!(names::PROCESS_START).set(*STARTED);
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        gauge!(names::PROCESS_MAX_FDS).set(soft as f64);
    }
    if let Ok(open) = open_descriptors() {
        gauge!(names::PROCESS_OPEN_FDS).set(open as f64);
    }
    if let Some(bytes) = resident_bytes() {
        gauge!(names::PROCESS_MEMORY).set(bytes as f64);
    }
}

static STARTED: LazyLock<f64> = LazyLock::new(|| {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
});

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Linux says it by itself from 6.2 on. Before, tens of thousands take milliseconds to list.
fn open_descriptors() -> io::Result<u64> {
    match fs::metadata(DESCRIPTORS)?.len() {
        0 => Ok(fs::read_dir(DESCRIPTORS)?.count() as u64),
        said => Ok(said),
    }
}

/// See proc(5), /proc/pid/statm.
fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * page_size() as u64)
}

const DESCRIPTORS: &str = "/proc/self/fd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_memory_and_descriptors() {
        assert!(cpu_seconds() > 0.0);
        assert!(resident_bytes().unwrap() > 100 * 1024);
        let before = open_descriptors().unwrap();
        let held: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let now = open_descriptors().unwrap();
        drop(held);
        // Other tests open and close some meanwhile.
        assert!((before + 60..before + 140).contains(&now), "{before} and then {now}");
    }
}
