//! What the kernel grants a process; see getrlimit(2).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::MaxConnections;

/// How many descriptors so many connections need, with all else that needs one.
#[must_use]
pub fn descriptors_for(most: MaxConnections) -> u64 {
    2 * most.get() as u64 + SPARE
}

/// Takes as many descriptors as are granted, and warns if that is too few for `most` connections
/// of two each.
pub fn raise_descriptor_limit_or_warn(most: MaxConnections) {
    match raise_descriptor_limit() {
        Ok(limit) => {
            let needed = descriptors_for(most);
            if limit < needed {
                tracing::warn!(
                    limit,
                    needed,
                    "too few descriptors for `max-connections`; raise LimitNOFILE"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "failed to raise the limit of descriptors"),
    }
}

/// Takes as many descriptors as are granted, and says how many.
///
/// # Errors
///
/// What getrlimit(2) and setrlimit(2) answer.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Listeners, the log, the runtime's own, DNS.
const SPARE: u64 = 64;
