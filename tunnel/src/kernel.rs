//! Bugs of the running kernel that a tunnel would meet.

use std::fmt;
use std::sync::LazyLock;

use nix::sys::utsname::uname;

/// Warns in the log if the running kernel is one that is known to lose data.
pub fn warn_of_hazards() {
    if let Some(release) = *RUNNING
        && release.loses_vsock_data()
    {
        tracing::warn!(
            kernel = %release,
            "this kernel loses vsock data when a reader stalls while small packets arrive; \
             upgrade to 6.12.101 or later"
        );
    }
}

/// Whether the running kernel resets a vsock stream, and loses what is on its way, when a reader
/// stalls while packets of less than 576 bytes arrive.
///
/// It counts 576 bytes for each packet that waits, however small it is, and resets the stream with
/// ENOBUFS when that is more than the receive window. The sender knows nothing of that count
/// (libkrun issue 795).
#[must_use]
pub fn loses_vsock_data() -> bool {
    RUNNING.is_some_and(Release::loses_vsock_data)
}

/// The version of the running kernel, if it can be read.
#[must_use]
pub fn running() -> Option<Release> {
    *RUNNING
}

/// Not from /proc, of which a service may see only its processes.
static RUNNING: LazyLock<Option<Release>> =
    LazyLock::new(|| Release::parse(uname().ok()?.release().to_str()?));

/// The version of a Linux kernel, as in `6.12.95-cloud-amd64`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Release(u32, u32, u32);

impl Release {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let version = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    /// Measured: 6.12.94, .95 and .100 do, 6.12.90, .101, .107 and .113 do not, nor does 6.1.192.
    pub(crate) fn loses_vsock_data(self) -> bool {
        (Self(6, 12, 92)..Self(6, 12, 101)).contains(&self)
    }

    /// Whether each vsock packet that waits takes 4 KiB, however small it is.
    pub(crate) fn wastes_vsock_memory(self) -> bool {
        self < Self(5, 4, 0)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_that_lose_data_are_known() {
        let loses = |text| Release::parse(text).unwrap().loses_vsock_data();
        for text in ["6.12.92", "6.12.95-cloud-amd64", "6.12.100+deb12-amd64"] {
            assert!(loses(text), "{text}");
        }
        for text in ["4.14.256", "5.10.0-35-cloud-amd64", "6.1.0-56", "6.12.91", "6.12.101", "6.18"]
        {
            assert!(!loses(text), "{text}");
        }
        assert_eq!(Release::parse("unknown"), None);
    }

    #[test]
    fn the_kernels_that_waste_memory_are_known() {
        let wastes = |text| Release::parse(text).unwrap().wastes_vsock_memory();
        assert!(wastes("4.14.256") && wastes("5.3.18") && !wastes("5.4.0") && !wastes("6.6.79"));
    }
}
