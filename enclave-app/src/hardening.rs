//! Keeps what this process holds from whoever else is on the machine, and from outliving its use.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
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
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(HardeningError::Core)?;
    prctl::set_dumpable(false).map_err(HardeningError::Core)
}

/// Has the system kill this process as soon as its parent has ended. A module that hangs would not
/// notice, and keep its sessions with the HSM.
///
/// # Errors
///
/// [`HardeningError`], with what the system answered.
pub fn die_with_parent() -> Result<(), HardeningError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(HardeningError::Parent)
}

/// The system does not let a process have itself protected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HardeningError {
    /// Core dumps stay possible.
    #[error("failed to forbid core dumps")]
    Core(#[source] Errno),
    /// The process may outlive its parent.
    #[error("failed to tie this process to its parent")]
    Parent(#[source] Errno),
}
