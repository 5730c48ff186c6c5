//! What decides about connections, and changes as a whole when the configuration is reloaded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tunnel::destination::Destination;
use tunnel::endpoint::Cid;
use tunnel::host::Host;
use tunnel::limits::Limits;
use tunnel::relay::Timeouts;
use tunnel::stream::Stream;

use crate::address::is_prohibited;
use crate::allowlist::Allowlist;
use crate::clusters::Clusters;
use crate::config::Config;
use crate::dial::{DialError, dial};
use crate::health::Health;
use crate::refusal::Refusal;
use crate::resolver::Resolver;

/// The rules and limits in force.
#[derive(Debug)]
pub struct Policy {
    /// Who may reach what.
    pub allowlist: Allowlist,
    /// How long and how many.
    pub limits: Limits,
    /// How long tunnels may be quiet.
    pub timeouts: Arc<Timeouts>,
    /// What turns names into addresses.
    pub resolver: Resolver,
    /// Which destinations are up.
    pub health: Health,
    /// Which HSMs clusters have. The allowlist has what was known when this policy was made.
    pub clusters: Clusters,
}

impl Policy {
    /// What `config` asks for.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let resolver = Resolver::new(config.nameservers.clone());
        Self::with(config, resolver, &Health::default(), &Clusters::default())
    }

    /// What `config` asks for instead of this policy: connections stay counted, and the last good
    /// answers of name servers and what is known of destinations and clusters stay known.
    #[must_use]
    pub fn reloaded(&self, config: &Config) -> Self {
        let resolver = self.resolver.reloaded(config.nameservers.clone());
        let mut policy = Self::with(config, resolver, &self.health, &self.clusters);
        policy.allowlist.inherit(&self.allowlist);
        policy
    }

    /// This policy with what is known of clusters by now.
    #[must_use]
    pub fn followed(&self) -> Self {
        let mut allowlist = self.allowlist.clone();
        self.clusters.fill(&mut allowlist);
        Self {
            health: self.health.reloaded(&allowlist),
            allowlist,
            limits: self.limits.clone(),
            timeouts: Arc::clone(&self.timeouts),
            resolver: self.resolver.clone(),
            clusters: self.clusters.clone(),
        }
    }

    fn with(config: &Config, resolver: Resolver, health: &Health, clusters: &Clusters) -> Self {
        let mut allowlist = config.allowlist.clone();
        let clusters = clusters.reloaded(&allowlist);
        clusters.fill(&mut allowlist);
        let health = health.reloaded(&allowlist);
        for rule in allowlist.rules() {
            // They are there as zero before anything is counted.
            rule.meters();
        }
        let limits = config.limits.clone();
        let (idle, half_close) = (limits.idle_timeout, limits.half_close_timeout);
        let timeouts = Arc::new(Timeouts { idle, half_close });
        Self { allowlist, limits, timeouts, resolver, health, clusters }
    }

    /// As [`Self::dial`], unless the destination is known to be down; what comes of it is known
    /// then.
    ///
    /// # Errors
    ///
    /// [`Refusal::Down`] at once, or [`Refusal::Dial`].
    pub async fn reach(
        &self,
        peer: Option<Cid>,
        destination: &Destination,
    ) -> Result<(Stream, SocketAddr), Refusal> {
        let attempt = self.health.admit(destination)?;
        let dialled = self.dial(peer, destination).await;
        let Some(attempt) = attempt else { return Ok(dialled?) };
        match dialled {
            Ok(dialled) => {
                attempt.succeeded();
                Ok(dialled)
            }
            Err(error) => {
                let down = attempt.failed(&error);
                Err(down.map_or_else(|| error.into(), Refusal::from))
            }
        }
    }

    /// Connects to a destination that a rule allows to `peer`.
    ///
    /// # Errors
    ///
    /// [`DialError`], within `connect-timeout`.
    pub async fn dial(
        &self,
        peer: Option<Cid>,
        destination: &Destination,
    ) -> Result<(Stream, SocketAddr), DialError> {
        let permitted = |ip| self.permits(peer, destination, ip);
        dial(destination, &self.resolver, self.limits.connect_timeout, permitted).await
    }

    /// Connects to one address of a destination that a rule allows to `peer`, within `limit`.
    ///
    /// # Errors
    ///
    /// [`DialError`].
    pub async fn dial_address(
        &self,
        peer: Option<Cid>,
        destination: &Destination,
        ip: IpAddr,
        limit: Duration,
    ) -> Result<Stream, DialError> {
        let permitted = |ip| self.permits(peer, destination, ip);
        let address = Destination { host: ip.into(), port: destination.port };
        Ok(dial(&address, &self.resolver, limit, permitted).await?.0)
    }

    /// Whether `ip` may be dialled for the destination that `peer` has asked for.
    fn permits(&self, peer: Option<Cid>, destination: &Destination, ip: IpAddr) -> bool {
        let (allowlist, port) = (&self.allowlist, destination.port);
        let is_literal = matches!(destination.host, Host::Ip(_));
        !is_prohibited(ip)
            || allowlist.lists_address(peer, ip, port)
            || is_literal && allowlist.lists_prohibited_block(peer, ip, port)
    }
}
