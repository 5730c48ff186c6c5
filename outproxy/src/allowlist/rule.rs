//! One rule of the allowlist, and the connections that it counts.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Cid;
use tunnel::host::Host;
use tunnel::label::Label;
use tunnel::limits::MaxConnections;

use super::pattern::HostPattern;
use crate::clusters::{Cluster, Members};
use crate::meters::Meters;

/// The name of a rule, in logs and metrics.
pub type RuleName = Label;

/// An `[[allow]]`: some hosts, on some ports, for all clients or some.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name in logs and metrics.
    pub name: RuleName,
    /// Any of these hosts, in the order of the file. Of a rule that follows a cluster: the addresses
    /// of its HSMs, as far as they are known.
    pub hosts: Box<[HostPattern]>,
    /// Any of these ports, in ascending order, each once.
    pub ports: Box<[Port]>,
    /// Any of these clients, in ascending order, each once. `None`: all, even without a CID.
    pub cids: Option<Box<[Cid]>>,
    /// How many connections may be open at once. `None`: as many as the whole outproxy may have.
    pub max_connections: Option<MaxConnections>,
    /// Whether its addresses are probed, on each of its ports. `None`: on that of CloudHSM's which
    /// tells whether the HSM is there, [`PROBED_PORT`], if it is one of them.
    pub probe: Option<bool>,
    /// The cluster whose HSMs are its hosts.
    pub cluster: Option<Arc<Cluster>>,
    /// Addresses of that cluster's HSMs that are going.
    draining: Box<[IpAddr]>,
    /// Whether it is not known yet which HSMs that cluster has.
    is_pending: bool,
    /// How many connections are open, shared with the rules of this name before and after a
    /// reload.
    open: Arc<AtomicUsize>,
    meters: OnceLock<Meters>,
}

impl Rule {
    /// Makes a rule without connections.
    #[must_use]
    pub fn new(
        name: RuleName,
        hosts: Vec<HostPattern>,
        mut ports: Vec<Port>,
        cids: Option<Vec<Cid>>,
        max_connections: Option<MaxConnections>,
    ) -> Self {
        ports.sort_unstable();
        ports.dedup();
        Self {
            name,
            hosts: hosts.into(),
            ports: ports.into(),
            cids: cids.map(|mut cids| {
                cids.sort_unstable();
                cids.dedup();
                cids.into()
            }),
            max_connections,
            probe: None,
            cluster: None,
            draining: Box::default(),
            is_pending: false,
            open: Arc::default(),
            meters: OnceLock::new(),
        }
    }

    /// Says whether its addresses are probed.
    #[must_use]
    pub fn with_probes(self, probe: Option<bool>) -> Self {
        Self { probe, ..self }
    }

    /// Has the HSMs of a cluster for its hosts, of which none is known yet.
    #[must_use]
    pub fn following(self, cluster: Arc<Cluster>) -> Self {
        Self { hosts: Box::default(), cluster: Some(cluster), is_pending: true, ..self }
    }

    /// Its cluster has these HSMs; nothing, if nobody knows them yet.
    pub(super) fn set_members(&mut self, members: Option<Members>) {
        self.is_pending = members.is_none();
        let Members { allowed, draining } = members.unwrap_or_default();
        self.hosts = allowed.into_iter().map(HostPattern::Address).collect();
        self.draining = draining.into_iter().collect();
    }

    pub(super) fn count_with(&mut self, old: &Self) {
        self.open = Arc::clone(&old.open);
    }

    /// Takes one of the connections that the rule allows at once.
    ///
    /// After a reload with a smaller `max-connections` the rule may have more than that; it gives
    /// out no permit until enough of them have ended.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub fn try_acquire(&self) -> Result<Permit, LimitReached> {
        let limit = self.max_connections.map_or(usize::MAX, MaxConnections::get);
        // The count guards no other memory, so no stronger ordering is needed.
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .map(|_| Permit(Arc::clone(&self.open)))
            .map_err(|_| LimitReached { rule: self.name.clone(), limit })
    }

    /// How many connections are open, over all reloads.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What is counted of its connections as long as they last.
    ///
    /// They begin with the first call, since a file is also read where nothing is recorded yet.
    pub fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| Meters::of(&self.name))
    }

    /// Whether the rule has this host and this port, for whatever client, or may have them once the
    /// HSMs of its cluster are known.
    #[must_use]
    pub fn may_list(&self, destination: &Destination) -> bool {
        let may_be_hsm = self.cluster.is_some() && matches!(destination.host, Host::Ip(_));
        (may_be_hsm || self.lists_host(&destination.host)) && self.lists_port(destination.port)
    }

    /// Whether a connection that this rule matches is matched by `earlier` already, so that this
    /// rule, if it comes later, has no say and its limit no effect.
    #[must_use]
    pub fn is_shadowed_by(&self, earlier: &Self) -> bool {
        let cids_covered = match (&earlier.cids, &self.cids) {
            (None, None) => true,
            (Some(earlier), Some(cids)) => cids.iter().all(|cid| earlier.contains(cid)),
            // A later rule with `cids` has a say still: it may admit reserved CIDs.
            (None, Some(_)) | (Some(_), None) => false,
        };
        let covers_host = |host| earlier.hosts.iter().any(|pattern| pattern.covers(host));
        // Which hosts those of a cluster are is not known when files are read.
        let hosts_covered = match (&earlier.cluster, &self.cluster) {
            (None, None) => self.hosts.iter().all(covers_host),
            (Some(earlier), Some(cluster)) => earlier.id == cluster.id,
            (None, Some(_)) | (Some(_), None) => false,
        };
        cids_covered && self.ports.iter().all(|port| earlier.lists_port(*port)) && hosts_covered
    }

    /// The destinations that are probed. Blocks and names are not.
    pub fn probed(&self) -> impl Iterator<Item = SocketAddr> {
        let is_probed = |port: &Port| self.probe.unwrap_or_else(|| port.get() == PROBED_PORT);
        let ports = self.ports.iter().copied().filter(is_probed);
        ports.flat_map(|port| {
            self.hosts.iter().filter_map(move |host| match host {
                HostPattern::Address(ip) => Some(SocketAddr::new(*ip, port.get())),
                HostPattern::Name(_) | HostPattern::Network(_) | HostPattern::Suffix(_) => None,
            })
        })
    }

    pub(super) fn lists_host(&self, host: &Host) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether it may have this host once the HSMs of its cluster are known.
    pub(super) fn awaits(&self, host: &Host) -> bool {
        self.is_pending && matches!(host, Host::Ip(_))
    }

    /// Whether the host is an HSM of its cluster that is going.
    pub(super) fn drains(&self, host: &Host) -> bool {
        matches!(host, Host::Ip(ip) if self.draining.contains(ip))
    }

    pub(super) fn lists_port(&self, port: Port) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    pub(super) fn admits(&self, peer: Option<Cid>) -> bool {
        match (&self.cids, peer) {
            (None, _) => true,
            (Some(cids), Some(cid)) => cids.binary_search(&cid).is_ok(),
            (Some(_), None) => false,
        }
    }
}

/// Where an HSM of CloudHSM's may listen.
pub const HSM_PORTS: RangeInclusive<u16> = 2223..=2225;
/// Where each of them takes connections of clients. What 2224 and 2225 are for often does not listen.
pub const PROBED_PORT: u16 = 2223;

/// One open connection of a rule, counted until this is dropped.
#[derive(Debug)]
#[must_use = "the connection is no longer counted once the permit is dropped"]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A rule has as many connections as it may have.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("rule `{rule}` has reached its {limit} connections; see its `max-connections`")]
pub struct LimitReached {
    /// The rule.
    pub rule: RuleName,
    /// How many connections it may have.
    pub limit: usize,
}
