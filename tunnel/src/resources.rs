//! What the kernel grants a process; see getrlimit(2).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::MaxConnections;

/// Takes as many descriptors as are granted, and warns if that is too few for `most` connections
/// of two each.
pub fn raise_descriptor_limit_or_warn(most: MaxConnections) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    match raised {
        Ok(limit) => {
            let needed = 2 * most.get() as u64 + SPARE;
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

/// Listeners, the log, the runtime's own, DNS.
const SPARE: u64 = 64;
