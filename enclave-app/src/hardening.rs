//! Keeps what this process holds from whoever else is on the machine.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use thiserror::Error;

/// No core dumps, and no other process of the same user may read this one's memory, environment or
/// descriptors (see PR_SET_DUMPABLE in prctl(2)). Call it first: what execve(2) starts is dumpable
/// again.
///
/// # Errors
///
/// [`HardeningError`], with what the system answered.
pub fn harden() -> Result<(), HardeningError> {
    // A core that is piped to a program is not held back by the limit (core(5)), hence both.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(HardeningError)?;
    prctl::set_dumpable(false).map_err(HardeningError)
}

/// The system does not forbid core dumps.
#[derive(Debug, Error)]
#[error("failed to forbid core dumps")]
pub struct HardeningError(#[source] Errno);
