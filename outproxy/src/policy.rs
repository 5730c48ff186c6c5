//! What decides about connections, and changes as a whole when the configuration is reloaded.

use std::net::SocketAddr;

use tunnel::destination::Destination;
use tunnel::endpoint::Cid;
use tunnel::host::Host;
use tunnel::limits::Limits;
use tunnel::stream::Stream;

use crate::address::is_prohibited;
use crate::allowlist::Allowlist;
use crate::config::Config;
use crate::dial::{DialError, dial};
use crate::resolver::Resolver;

/// The rules and limits in force.
#[derive(Debug)]
pub struct Policy {
    /// Who may reach what.
    pub allowlist: Allowlist,
    /// How long and how many.
    pub limits: Limits,
    /// What turns names into addresses.
    pub resolver: Resolver,
}

impl Policy {
    /// What `config` asks for.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::with_resolver(config, Resolver::new(config.nameservers.clone()))
    }

    /// What `config` asks for instead of this policy: connections stay counted, and the last good
    /// answers of name servers stay known.
    #[must_use]
    pub fn reloaded(&self, config: &Config) -> Self {
        let resolver = self.resolver.reloaded(config.nameservers.clone());
        let mut policy = Self::with_resolver(config, resolver);
        policy.allowlist.inherit(&self.allowlist);
        policy
    }

    fn with_resolver(config: &Config, resolver: Resolver) -> Self {
        let policy =
            Self { allowlist: config.allowlist.clone(), limits: config.limits.clone(), resolver };
        for rule in policy.allowlist.rules() {
            // They are there as zero before anything is counted.
            rule.meters();
        }
        policy
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
        let is_literal = matches!(destination.host, Host::Ip(_));
        let permitted = |ip| {
            let (allowlist, port) = (&self.allowlist, destination.port);
            !is_prohibited(ip)
                || allowlist.lists_address(peer, ip, port)
                || is_literal && allowlist.lists_prohibited_block(peer, ip, port)
        };
        dial(destination, &self.resolver, self.limits.connect_timeout, permitted).await
    }
}
