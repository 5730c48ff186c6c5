//! The allowlist: which clients may reach which destinations.

mod pattern;
mod rule;

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Cid;
use tunnel::host::Host;

use crate::address::is_prohibited_block;
use crate::clusters::{Cluster, Members};

pub use self::pattern::{HostPattern, PatternError};
pub use self::rule::{HSM_PORTS, LimitReached, PROBED_PORT, Permit, Rule, RuleName};

/// The rules, in the order of the file. What none of them lists is refused.
#[derive(Clone, Debug, Default)]
pub struct Allowlist {
    rules: Vec<Arc<Rule>>,
}

impl Allowlist {
    /// Makes an allowlist of `rules` whose names differ.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into_iter().map(Arc::new).collect() }
    }

    /// Lets every rule that `old` has too, by name, count the connections that are open there.
    ///
    /// To be called before this allowlist takes the place of `old`, so that a reload neither
    /// frees a limit that is used up nor forgets a connection that ends later.
    pub fn inherit(&mut self, old: &Self) {
        for rule in &mut self.rules {
            if let Some(old) = old.rules.iter().find(|old| old.name == rule.name) {
                Arc::make_mut(rule).count_with(old);
            }
        }
    }

    /// Lets the rules that follow clusters have the HSMs that are `known`.
    pub fn set_members(&mut self, known: impl Fn(&Cluster) -> Option<Members>) {
        for rule in &mut self.rules {
            if let Some(cluster) = rule.cluster.clone() {
                Arc::make_mut(rule).set_members(known(&cluster));
            }
        }
    }

    /// The rules, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The rule that decides about a connection of `peer` to `destination`: the first that
    /// matches, also if it has reached its limit and a later one matches too.
    ///
    /// `peer` is `None` where clients have no CID, as on `tcp:` and `unix:`. Such a client is
    /// admitted by no rule with `cids`.
    ///
    /// # Errors
    ///
    /// If no rule matches: what the rule that came closest lacks.
    pub fn find(
        &self,
        peer: Option<Cid>,
        destination: &Destination,
    ) -> Result<&Arc<Rule>, Refusal> {
        let mut draining = None;
        let mut wrong_port = None;
        let mut wrong_peer = None;
        for rule in &self.rules {
            if rule.drains(&destination.host) {
                draining.get_or_insert(rule);
            }
            if !rule.lists_host(&destination.host) {
                continue;
            }
            if !rule.lists_port(destination.port) {
                wrong_port.get_or_insert(rule);
            } else if !rule.admits(peer) {
                wrong_peer.get_or_insert(rule);
            } else {
                return Ok(rule);
            }
        }
        Err(match (wrong_peer, wrong_port) {
            (Some(rule), _) => {
                Refusal::Peer { rule: rule.name.clone(), destination: destination.clone(), peer }
            }
            (None, Some(rule)) => {
                Refusal::Port { rule: rule.name.clone(), destination: destination.clone() }
            }
            (None, None) => match draining {
                Some(rule) => {
                    Refusal::Draining { rule: rule.name.clone(), host: destination.host.clone() }
                }
                None => Refusal::Host(destination.host.clone()),
            },
        })
    }

    /// Whether a connection that is open may stay so. Those with an HSM that is going may, other than
    /// new ones.
    #[must_use]
    pub fn keeps(&self, peer: Option<Cid>, destination: &Destination) -> bool {
        let Destination { host, port } = destination;
        let keeps =
            |rule: &Arc<Rule>| rule.drains(host) && rule.lists_port(*port) && rule.admits(peer);
        self.find(peer, destination).is_ok() || self.rules.iter().any(keeps)
    }

    /// The cluster whose HSMs must be known to decide about a connection that no rule allows.
    #[must_use]
    pub fn awaits(&self, peer: Option<Cid>, destination: &Destination) -> Option<&Arc<Cluster>> {
        let Destination { host, port } = destination;
        let awaits =
            |rule: &&Arc<Rule>| rule.awaits(host) && rule.lists_port(*port) && rule.admits(peer);
        let rule = self.rules.iter().find(awaits)?;
        rule.cluster.as_ref().filter(|_| self.find(peer, destination).is_err())
    }

    /// Whether some rule that matches `peer` and `port` has `ip` itself among its hosts.
    ///
    /// A block that contains `ip` does not count: an operator who writes `0.0.0.0/0` hardly means
    /// the metadata service, one who writes `169.254.169.254` does.
    #[must_use]
    pub fn lists_address(&self, peer: Option<Cid>, ip: IpAddr, port: Port) -> bool {
        let address = HostPattern::Address(ip.to_canonical());
        self.rules
            .iter()
            .any(|rule| rule.lists_port(port) && rule.admits(peer) && rule.hosts.contains(&address))
    }

    /// Whether some rule that matches `peer` and `port` has a block around `ip` that lies wholly
    /// where a name must not lead (see [`is_prohibited`](crate::address::is_prohibited)).
    ///
    /// An operator who writes `127.0.0.0/8` means such addresses, and a client that asks for one
    /// of them by number got it from nobody's name server.
    #[must_use]
    pub fn lists_prohibited_block(&self, peer: Option<Cid>, ip: IpAddr, port: Port) -> bool {
        let is_meant = |pattern: &HostPattern| match pattern {
            HostPattern::Network(block) => block.contains(ip) && is_prohibited_block(*block),
            HostPattern::Address(_) | HostPattern::Name(_) | HostPattern::Suffix(_) => false,
        };
        self.rules.iter().any(|rule| {
            rule.lists_port(port) && rule.admits(peer) && rule.hosts.iter().any(is_meant)
        })
    }

    /// Whether some rule names `cid` in its `cids`.
    ///
    /// CIDs 0, 1 and 2 and the CID of this machine are no enclaves: clients from there are
    /// processes of this machine or its hypervisor, and are refused unless this holds.
    #[must_use]
    pub fn admits_reserved(&self, cid: Cid) -> bool {
        self.rules.iter().filter_map(|rule| rule.cids.as_ref()).any(|cids| cids.contains(&cid))
    }
}

/// Why no rule allows a connection.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The host is an HSM that is being deleted, or gone.
    #[error("rule `{rule}` lists `{host}` no longer, since that HSM is being deleted, or gone")]
    Draining {
        /// The first such rule.
        rule: RuleName,
        /// What the client asked for.
        host: Host,
    },
    /// The host is in no rule.
    #[error("no rule lists `{0}`")]
    Host(Host),
    /// A rule has the host and the port, but not for this client.
    #[error("rule `{rule}` lists `{destination}`, but not for {}", describe(*.peer))]
    Peer {
        /// The first such rule.
        rule: RuleName,
        /// What the client asked for.
        destination: Destination,
        /// The client.
        peer: Option<Cid>,
    },
    /// A rule has the host, but not the port.
    #[error("rule `{rule}` lists `{}`, but not port {}", destination.host, destination.port)]
    Port {
        /// The first such rule.
        rule: RuleName,
        /// What the client asked for.
        destination: Destination,
    },
}

fn describe(peer: Option<Cid>) -> String {
    peer.map_or_else(|| "a client without a CID".into(), |cid| format!("CID {cid}"))
}

#[cfg(test)]
mod tests;
