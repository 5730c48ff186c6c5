//! The machine that inproxy runs on.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{DynamicClockId, Timespec, clock_gettime_dynamic};
use tunnel::endpoint::Endpoint;
use tunnel::examination::machine::{self, line_of};
use tunnel::examination::processes::Serving;
use tunnel::examination::{Finding, in_milliseconds};

use super::START;
use crate::config::Config;

pub(super) fn examine(config: &Config, path: &Path, default_path: &Path) -> Vec<Finding> {
    let serving = Serving::find("inproxy", path, default_path);
    vec![
        machine::kernel(),
        vsock(config),
        nsm(Path::new("/dev/nsm")),
        entropy(),
        clock(),
        descriptors(config, serving.as_ref()),
        running(path, serving.as_ref()),
    ]
}

fn vsock(config: &Config) -> Finding {
    let vias = config.forwards.iter().filter_map(|forward| forward.via.as_ref());
    let mut endpoints = vias.chain([&config.outproxy]);
    if endpoints.any(|endpoint| matches!(endpoint, Endpoint::Vsock { .. })) {
        machine::vsock()
    } else {
        Finding::skipped("vsock", "nothing is reached over vsock")
    }
}

fn nsm(device: &Path) -> Finding {
    if device.exists() {
        return Finding::ok("nsm", format!("{} is there", device.display()));
    }
    Finding::warning(
        "nsm",
        "no-nsm",
        format!("there is no {}: this is no Nitro Enclave, or hides it", device.display()),
        "without it nothing can be attested; in a container, pass the device: \
         `--device /dev/nsm`",
    )
}

fn entropy() -> Finding {
    let source = line_of("/sys/class/misc/hw_random/rng_current");
    let source = source.ok().filter(|name| !name.is_empty() && name != "none");
    let source = source.map_or_else(
        || "no hardware feeds them".into(),
        |name| format!("`{name}` feeds them, too"),
    );
    match getrandom(&mut [0_u8; 32], GetRandomFlags::NONBLOCK) {
        Ok(_) => Finding::ok("entropy", format!("random numbers are ready; {source}")),
        Err(Errno::AGAIN) => Finding::failed(
            "entropy",
            "no-entropy",
            format!("the kernel has no random numbers yet; {source}"),
            "give it a source: in an enclave the kernel's `nsm-hwrng`, which newer images of \
             nitro-cli have, or `random.trust_cpu=on` on its command line",
        ),
        Err(error) => Finding::failed(
            "entropy",
            "no-getrandom",
            format!("getrandom(2) fails: {error}"),
            "let the seccomp filter of this container admit getrandom(2)",
        ),
    }
}

fn clock() -> Finding {
    match host_clock(Path::new("/dev/ptp0")) {
        Ok((host, own)) => judge_clock(host, own),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::skipped(
            "clock",
            "there is no /dev/ptp0 (module ptp_kvm), so nobody knows what time the host has",
        ),
        Err(error) => {
            Finding::skipped("clock", format!("the host's time in /dev/ptp0 is not read: {error}"))
        }
    }
}

/// The host's time, and ours.
fn host_clock(device: &Path) -> io::Result<(Duration, Duration)> {
    let device = File::open(device)?;
    let now = clock_gettime_dynamic(DynamicClockId::Dynamic(device.as_fd()))?;
    let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Timespec { tv_sec, tv_nsec } = now;
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidData);
    let seconds = u64::try_from(tv_sec).map_err(out_of_range)?;
    Ok((Duration::new(seconds, u32::try_from(tv_nsec).map_err(out_of_range)?), own))
}

fn judge_clock(host: Duration, own: Duration) -> Finding {
    let skew = host.abs_diff(own);
    let way = if own < host { "behind" } else { "ahead of" };
    let found = if skew < Duration::from_secs(1) {
        format!("{} {way} the host's", in_milliseconds(skew))
    } else {
        format!("{:.1} s {way} the host's", skew.as_secs_f64())
    };
    const ADVICE: &str = "set it from /dev/ptp0, now and again: `phc_ctl /dev/ptp0 get`, or chronyd with \
         `refclock PHC /dev/ptp0`";
    match skew {
        _ if skew >= REFUSED => Finding::failed("clock", "wrong-time", found, ADVICE),
        _ if skew >= TOLERATED => Finding::warning("clock", "skewed", found, ADVICE),
        _ => Finding::ok("clock", found),
    }
}

fn descriptors(config: &Config, serving: Option<&Serving>) -> Finding {
    let theirs = serving.and_then(|serving| Some((serving.pid, serving.descriptors()?)));
    let (whom, limit) = match theirs {
        Some((pid, limit)) => (format!("inproxy (process {pid})"), Ok(limit)),
        None => ("a process here".into(), machine::own_descriptors()),
    };
    match limit {
        Ok(limit) => machine::descriptors(
            config.limits.max_connections,
            limit,
            &whom,
            "raise it before inproxy starts (`ulimit -Hn`), or lower `max-connections`",
        ),
        Err(error) => Finding::skipped("descriptors", format!("getrlimit(2) fails: {error}")),
    }
}

fn running(path: &Path, serving: Option<&Serving>) -> Finding {
    match serving {
        Some(serving) => Finding::ok("inproxy", format!("runs as process {}", serving.pid)),
        None => Finding::warning(
            "inproxy",
            "not-running",
            format!("no inproxy with `{}` is to be seen", path.display()),
            START,
        ),
    }
}

/// Tokens and certificates are often this exact.
const TOLERATED: Duration = Duration::from_secs(1);
/// AWS refuses signatures that are older.
const REFUSED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use tunnel::examination::Verdict;

    #[test]
    fn a_clock_may_differ_a_little() {
        let now = Duration::from_secs(1_800_000_000);
        for (host, verdict, words) in [
            (now + Duration::from_millis(999), Verdict::Ok, "999.0 ms behind"),
            (now + Duration::from_secs(1), Verdict::Warning, "1.0 s behind"),
            (now - Duration::from_secs(2), Verdict::Warning, "2.0 s ahead of"),
            (now + Duration::from_secs(299), Verdict::Warning, "299.0 s behind"),
            (now - Duration::from_secs(300), Verdict::Failed, "300.0 s ahead of"),
        ] {
            let finding = judge_clock(host, now);
            assert_eq!(finding.result, verdict, "{}", finding.found);
            assert!(finding.found.starts_with(words), "{}", finding.found);
        }
    }

    #[test]
    fn what_is_no_clock_is_not_read() {
        assert!(host_clock(Path::new("/dev/null")).is_err());
        let missing = host_clock(Path::new("/dev/no-such-clock")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn attestation_needs_a_device() {
        assert_eq!(nsm(Path::new("/dev/null")).result, Verdict::Ok);
        assert_eq!(nsm(Path::new("/dev/no-such-nsm")).problem, Some("no-nsm"));
    }

    #[test]
    fn this_machine_has_random_numbers() {
        assert_eq!(entropy().result, Verdict::Ok);
    }
}
