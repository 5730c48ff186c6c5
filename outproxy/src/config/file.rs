//! The keys of outproxy.toml, as they are written.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use tunnel::config::{List, Mistakes};
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::{Cid, Endpoint};
use tunnel::host::Clamped;
use tunnel::limits::{Limits, MaxConnections};
use tunnel::log::LogConfig;

use super::following::{FollowingFile, Interval};
use crate::allowlist::{HSM_PORTS, HostPattern, Rule, RuleName};
use crate::clusters::{ClusterId, EndpointUrl, Region};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub(super) listen: Vec<ListenFile>,
    #[serde(default)]
    pub(super) allow: Vec<AllowFile>,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) dns: Option<DnsFile>,
    pub(super) metrics: Option<MetricsFile>,
    #[serde(default)]
    pub(super) log: LogConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[listen]]`", rename_all = "kebab-case")]
pub(super) struct ListenFile {
    pub(super) on: Spanned<Endpoint>,
    pub(super) to: Option<Spanned<Destination>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[allow]]`", rename_all = "kebab-case")]
pub(super) struct AllowFile {
    name: Spanned<RuleName>,
    hosts: Option<List<HostPattern>>,
    ports: Option<List<Port>>,
    cloudhsm_cluster: Option<Spanned<ClusterId>>,
    region: Option<Spanned<Region>>,
    poll_interval: Option<Spanned<Interval>>,
    endpoint_url: Option<Spanned<EndpointUrl>>,
    cids: Option<List<Cid>>,
    max_connections: Option<MaxConnections>,
    probe: Option<Spanned<bool>>,
}

impl AllowFile {
    /// The rule, which stands where its name stands.
    pub(super) fn into_rule(self, mistakes: &mut Mistakes) -> Spanned<Rule> {
        let at = self.name.span();
        let following = FollowingFile {
            cluster: self.cloudhsm_cluster,
            region: self.region,
            interval: self.poll_interval,
            endpoint: self.endpoint_url,
        };
        let follows = following.cluster.is_some();
        match &self.hosts {
            Some(hosts) if follows => mistakes.add(hosts.span(), HOSTS_BESIDE_CLUSTER),
            None if !follows => mistakes.add(at.clone(), "missing key `hosts`"),
            _ => {}
        }
        let ports = match self.ports {
            Some(ports) => ports.into_values(mistakes),
            None if follows => {
                HSM_PORTS.filter_map(|port| Port::try_from(i64::from(port)).ok()).collect()
            }
            None => {
                mistakes.add(at.clone(), "missing key `ports`");
                Vec::new()
            }
        };
        let rule = Rule::new(
            self.name.get_ref().clone(),
            self.hosts.map(|hosts| hosts.into_values(mistakes)).unwrap_or_default(),
            ports,
            self.cids.map(|cids| cids.into_values(mistakes)),
            self.max_connections,
        );
        let rule = match following.into_cluster(&at, mistakes) {
            Some(cluster) => rule.following(Arc::new(cluster)),
            None => rule,
        };
        let rule = rule.with_probes(self.probe.as_ref().map(|probe| *probe.get_ref()));
        let is_unfit = |host: &HostPattern| !matches!(host, HostPattern::Address(_));
        if let Some(probe) = self.probe
            && *probe.get_ref()
            && !rule.hosts.is_empty()
            && rule.hosts.iter().all(is_unfit)
        {
            mistakes.add(probe.span(), NOTHING_TO_PROBE);
        }
        Spanned::new(at, rule)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[dns]`", rename_all = "kebab-case")]
pub(super) struct DnsFile {
    pub(super) servers: Option<List<Nameserver>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[metrics]`", rename_all = "kebab-case")]
pub(super) struct MetricsFile {
    pub(super) listen: Spanned<Endpoint>,
}

/// A DNS server: `169.254.169.253`, `127.0.0.1:5353` or `[fd00::53]:5353`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Nameserver(SocketAddr);

impl TryFrom<Cow<'_, str>> for Nameserver {
    type Error = NameserverError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, NameserverError> {
        text.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
            .or_else(|_| text.parse())
            .ok()
            .filter(|server| server.port() != 0)
            .map(Self)
            .ok_or_else(|| NameserverError(text.as_ref().into()))
    }
}

impl From<Nameserver> for SocketAddr {
    fn from(server: Nameserver) -> Self {
        server.0
    }
}

#[derive(Debug, Error)]
#[error(
    "`{0}` is not the address of a DNS server; write it as in `169.254.169.253` or `127.0.0.1:5353`"
)]
pub(super) struct NameserverError(Clamped);

const HOSTS_BESIDE_CLUSTER: &str = "the hosts of a rule with `cloudhsm-cluster` are its HSMs; \
     remove `hosts`, or write another rule";

const NOTHING_TO_PROBE: &str = "`hosts` has no address, and blocks and names are not probed; \
     write the addresses into `hosts`, or remove `probe`";

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
