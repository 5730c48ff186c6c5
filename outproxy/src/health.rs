//! Which of the addresses that rules list are up, so that nobody waits for one that is down.
//!
//! What probes and the connections of clients have found out about an address and port, its
//! *destination*, is one record. While that says `down`, a client is refused at once, but for a
//! trial now and then that is let through.

mod announcer;
mod metrics;
mod prober;
mod record;
pub mod status;
mod target;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tunnel::destination::Destination;
use tunnel::host::Host;

pub use self::prober::{MOST_AT_ONCE, Prober};
pub use self::record::{
    FIRST_BACKOFF, FIRST_PROBE, INTERVAL, LONGEST_BACKOFF, PAUSE_AFTER_REFUSAL, State,
};
pub use self::status::DestinationStatus;
pub use self::target::{Attempt, Down};

use self::target::Target;
use crate::allowlist::{Allowlist, RuleName};

/// All destinations that are probed.
#[derive(Clone, Debug, Default)]
pub struct Health {
    destinations: BTreeMap<SocketAddr, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The first rule that has it probed.
    rule: RuleName,
    target: Arc<Target>,
}

impl Health {
    /// Those that `allowlist` has probed, of which nothing is known.
    #[must_use]
    pub fn new(allowlist: &Allowlist) -> Self {
        Self::default().reloaded(allowlist)
    }

    /// Those that `allowlist` has probed; what this knows of them stays known.
    #[must_use]
    pub fn reloaded(&self, allowlist: &Allowlist) -> Self {
        let mut destinations = BTreeMap::new();
        for rule in allowlist.rules() {
            for address in rule.probed() {
                destinations.entry(address).or_insert_with(|| Entry {
                    rule: rule.name.clone(),
                    target: self.destinations.get(&address).map_or_else(
                        || Arc::new(Target::new(address)),
                        |known| Arc::clone(&known.target),
                    ),
                });
            }
        }
        Self { destinations }
    }

    /// Asks for leave to connect to `destination`: an attempt whose outcome is to be told, or
    /// nothing if nobody probes it.
    ///
    /// # Errors
    ///
    /// It is down, and it is not yet time for another trial.
    pub fn admit(&self, destination: &Destination) -> Result<Option<Attempt>, Down> {
        let Host::Ip(ip) = destination.host else { return Ok(None) };
        let address = SocketAddr::new(ip, destination.port.get());
        let entry = self.destinations.get(&address);
        entry.map(|entry| Arc::clone(&entry.target).admit(Instant::now())).transpose()
    }

    /// How many there are in each state, as it is now.
    #[must_use]
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for entry in self.destinations.values() {
            match entry.target.state() {
                State::Down => count.down += 1,
                State::Unknown => count.unknown += 1,
                State::Up => count.up += 1,
            }
        }
        count
    }

    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.destinations.values().map(|entry| &entry.target)
    }
}

/// How many destinations are in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// They did not let themselves be connected.
    pub down: usize,
    /// Nothing is known of them yet.
    pub unknown: usize,
    /// They did.
    pub up: usize,
}

#[cfg(test)]
mod tests;
