//! Which forward an accepted connection belongs to, and where it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tunnel::cidr::Cidr;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Endpoint;
use tunnel::host::{DnsName, Host};
use tunnel::label::Label;

use crate::config::{Config, Forward, Local};

/// The forwards of a configuration, found by the local address of an accepted connection.
#[derive(Clone, Debug)]
pub struct Forwards(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// The addresses that belong to the forward, which for a host is the one that it was given.
    addresses: Vec<Cidr>,
    forward: Forward,
}

/// Where a connection leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// To the endpoint `via`, without a header. The destination is only for the log.
    Raw {
        /// What to connect to.
        via: Endpoint,
        /// What the client believes to be connected to.
        destination: Destination,
    },
    /// To outproxy, which is told the destination: for a host its name, otherwise the address.
    Routed(Destination),
}

impl Target {
    /// What the client believes to be connected to.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        match self {
            Self::Raw { destination, .. } | Self::Routed(destination) => destination,
        }
    }
}

impl Forwards {
    /// Makes the forwards of `config`, whose hosts have the addresses in `loopback`.
    ///
    /// A host that `loopback` lacks is not found, as no connection to it can arrive.
    #[must_use]
    pub fn new(config: &Config, loopback: &BTreeMap<DnsName, Ipv4Addr>) -> Self {
        let addresses = |forward: &Forward| match &forward.local {
            Local::Addresses(cidrs) => cidrs.clone(),
            Local::Host(name) => {
                loopback.get(name).map(|ip| IpAddr::from(*ip).into()).into_iter().collect()
            }
        };
        Self(
            config
                .forwards
                .iter()
                .map(|forward| Entry { addresses: addresses(forward), forward: forward.clone() })
                .collect(),
        )
    }

    /// The name of the forward to which a connection belongs that was accepted on `local`, and
    /// where the connection leads.
    ///
    /// Where routed forwards overlap, the first of the file gives the name. `None` if `local` was
    /// never meant to be forwarded, such as 127.0.0.1, which a listener for all addresses also
    /// takes connections for.
    #[must_use]
    pub fn find(&self, local: SocketAddr) -> Option<(&Label, Target)> {
        let port = Port::try_from(i64::from(local.port())).ok()?;
        let Entry { forward, .. } = self.0.iter().find(|entry| {
            entry.forward.ports.binary_search(&port).is_ok()
                && entry.addresses.iter().any(|cidr| cidr.contains(local.ip()))
        })?;
        let host = match &forward.local {
            Local::Addresses(_) => local.ip().into(),
            Local::Host(name) => Host::Name(name.clone()),
        };
        let destination = Destination { host, port };
        let target = match &forward.via {
            Some(via) => Target::Raw { via: via.clone(), destination },
            None => Target::Routed(destination),
        };
        Some((&forward.name, target))
    }

    /// The wildcard addresses to listen on: one for each port and family serves every address
    /// that is local.
    #[must_use]
    pub fn wildcards(&self) -> BTreeSet<Destination> {
        let mut wildcards = BTreeSet::new();
        for Entry { addresses, forward } in &self.0 {
            for (cidr, port) in
                addresses.iter().flat_map(|cidr| forward.ports.iter().map(move |port| (cidr, port)))
            {
                let ip = match cidr.net() {
                    IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                wildcards.insert(Destination { host: ip.into(), port: *port });
            }
        }
        wildcards
    }
}

#[cfg(test)]
mod tests;
