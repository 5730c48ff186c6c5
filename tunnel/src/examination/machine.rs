//! What both proxies need of the machine that they run on.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use super::Finding;
use crate::endpoint::Cid;
use crate::kernel::{self, Release};
use crate::limits::MaxConnections;
use crate::resources::descriptors_for;
use crate::vsock::try_local_cid;

/// Whether the running kernel has bugs that a tunnel would meet.
#[must_use]
pub fn kernel() -> Finding {
    match kernel::running() {
        Some(release) => judge_kernel(release),
        None => Finding::skipped(KERNEL, "the version of the kernel cannot be read"),
    }
}

fn judge_kernel(release: Release) -> Finding {
    if release.loses_vsock_data() {
        Finding::warning(
            KERNEL,
            "loses-vsock-data",
            format!(
                "Linux {release} loses vsock data when a reader stalls while small packets arrive"
            ),
            "upgrade the kernel to 6.12.101 or later",
        )
    } else if release.wastes_vsock_memory() {
        Finding::warning(
            KERNEL,
            "wastes-vsock-memory",
            format!("Linux {release} takes 4 KiB for each vsock packet, however small it is"),
            "upgrade the kernel to 5.4 or later; that of an enclave comes with nitro-cli",
        )
    } else {
        Finding::ok(KERNEL, format!("Linux {release}"))
    }
}

/// Whether other machines can be reached over vsock, or reach this one. No connection is made.
#[must_use]
pub fn vsock() -> Finding {
    let transports: Vec<_> =
        TRANSPORTS.iter().filter(|name| Path::new(MODULES).join(name).exists()).copied().collect();
    judge_vsock(try_local_cid(), &transports)
}

fn judge_vsock(cid: io::Result<Cid>, transports: &[&str]) -> Finding {
    let by = if transports.is_empty() {
        // What is built into the kernel is no module.
        String::new()
    } else {
        format!(", by {}", transports.join(", "))
    };
    match cid {
        // As the kernel says where there is no transport, or only that to itself.
        Ok(cid) if [Cid::ANY, Cid::LOCAL].contains(&cid) => Finding::failed(
            VSOCK,
            "no-transport",
            format!("nothing carries vsock to another machine{by}"),
            "load its module: `modprobe vmw_vsock_virtio_transport` in a Nitro instance or an \
             enclave, `modprobe vhost_vsock` on a machine that runs QEMU or Firecracker",
        ),
        Ok(cid) => Finding::ok(VSOCK, format!("this machine is CID {cid}{by}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::failed(
            VSOCK,
            "no-vsock",
            "there is no /dev/vsock",
            "load the module: `modprobe vsock`; in a container, pass the device: \
             `--device /dev/vsock`",
        ),
        Err(error) => Finding::warning(
            VSOCK,
            "own-cid-unknown",
            format!("/dev/vsock cannot be opened ({error}), so our own CID is not known"),
            "let everybody read it, as udev does: `chmod 0666 /dev/vsock`; or run this as root",
        ),
    }
}

/// Whether there are descriptors for `most` connections, of which `limit` are granted to `whom`.
#[must_use]
pub fn descriptors(most: MaxConnections, limit: u64, whom: &str, advice: &'static str) -> Finding {
    let needed = descriptors_for(most);
    if limit < needed {
        let found = format!(
            "{whom} may have {limit}, and `max-connections = {most}` needs {needed}, two for each"
        );
        return Finding::warning(DESCRIPTORS, "too-few", found, advice);
    }
    let limit = if limit == u64::MAX { "any number".into() } else { limit.to_string() };
    Finding::ok(
        DESCRIPTORS,
        format!("{whom} may have {limit}, and {needed} are needed for {most} connections"),
    )
}

/// How many descriptors this process may have, if it asks.
///
/// # Errors
///
/// What getrlimit(2) answers.
pub fn own_descriptors() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

/// The first line of a small file, such as those of sysfs.
///
/// # Errors
///
/// It cannot be read.
pub fn line_of(path: impl AsRef<Path>) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

const DESCRIPTORS: &str = "descriptors";
const KERNEL: &str = "kernel";
const VSOCK: &str = "vsock";
const MODULES: &str = "/sys/module";
/// What carries vsock; see `drivers/vhost`, `net/vmw_vsock` in Linux.
const TRANSPORTS: &[&str] = &[
    "hv_sock",
    "vhost_vsock",
    "vmw_vsock_virtio_transport",
    "vmw_vsock_vmci_transport",
    "vsock_loopback",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examination::Verdict;

    fn problem(finding: &Finding) -> (Verdict, Option<&'static str>) {
        (finding.result, finding.problem)
    }

    #[test]
    fn hazards_of_kernels_are_warned_of() {
        for (text, expected) in [
            ("6.12.95-cloud-amd64", (Verdict::Warning, Some("loses-vsock-data"))),
            ("4.14.256", (Verdict::Warning, Some("wastes-vsock-memory"))),
            ("6.1.176", (Verdict::Ok, None)),
        ] {
            assert_eq!(problem(&judge_kernel(Release::parse(text).unwrap())), expected, "{text}");
        }
    }

    #[test]
    fn a_machine_that_none_can_reach_over_vsock_is_told_from_one_without_it() {
        let judge = |cid| problem(&judge_vsock(cid, &["vsock_loopback"]));
        assert_eq!(judge(Ok(Cid::new(3))), (Verdict::Ok, None));
        for cid in [Cid::ANY, Cid::LOCAL] {
            assert_eq!(judge(Ok(cid)), (Verdict::Failed, Some("no-transport")));
        }
        for (kind, expected) in [
            (io::ErrorKind::NotFound, (Verdict::Failed, Some("no-vsock"))),
            (io::ErrorKind::PermissionDenied, (Verdict::Warning, Some("own-cid-unknown"))),
        ] {
            assert_eq!(judge(Err(kind.into())), expected);
        }
    }

    #[test]
    fn every_connection_needs_two_descriptors() {
        let most = MaxConnections::new(100).unwrap();
        let judge = |limit| problem(&descriptors(most, limit, "this process", "raise it"));
        assert_eq!(judge(descriptors_for(most)), (Verdict::Ok, None));
        assert_eq!(judge(descriptors_for(most) - 1), (Verdict::Warning, Some("too-few")));
    }
}
