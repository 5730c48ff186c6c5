//! Questions to the hosts file and to name servers, with nothing remembered in between.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as ResponseError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tunnel::host::DnsName;

use super::{Answer, DnsError, Family};

/// What is asked: the addresses of a name in one family.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Question {
    pub(super) name: DnsName,
    pub(super) family: Family,
}

/// An answer, be it that there is no address, and how long it holds.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) ttl: Duration,
}

/// Somebody who can be asked.
pub(super) trait Ask: fmt::Debug + Send + Sync {
    /// Asks. The error is always [`DnsError::Failed`] or [`DnsError::TimedOut`]: nothing was
    /// learnt.
    fn ask(&self, question: &Question) -> BoxFuture<'static, Result<Reply, DnsError>>;
}

/// The hosts file, and name servers.
pub(super) struct NameServers {
    pub(super) hosts: Hosts,
    configure: Box<Configure>,
    budget: Duration,
    client: Mutex<Option<TokioResolver>>,
}

/// Finds out which name servers there are.
type Configure = dyn Fn() -> Result<(Vec<NameServerConfig>, ResolverOpts), NetError> + Send + Sync;

impl NameServers {
    /// The name servers at these addresses, or else those of resolv.conf(5).
    pub(super) fn new(addresses: Option<Vec<SocketAddr>>, budget: Duration) -> Self {
        let configure: Box<Configure> = match addresses {
            Some(addresses) => Box::new(move || {
                Ok((addresses.iter().map(server_at).collect(), ResolverOpts::default()))
            }),
            None => Box::new(|| {
                let (config, options) = read_system_conf()?;
                Ok((config.into_parts().2, options))
            }),
        };
        let hosts = Hosts::from_system().unwrap_or_default();
        Self { hosts, configure, budget, client: Mutex::default() }
    }

    /// The client, built when it is first needed: resolv.conf may have no name server yet when
    /// this process starts, before the network is up.
    fn client(&self) -> Result<TokioResolver, NetError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let (servers, mut options) = (self.configure)()?;
        options.timeout = self.budget / ATTEMPTS;
        options.attempts = RETRIES;
        // Both are done here.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(
            ResolverConfig::from_name_servers(servers),
            TokioRuntimeProvider::default(),
        );
        *builder.options_mut() = options;
        Ok(client.insert(builder.build()?).clone())
    }

    /// As with `hosts: files dns` in nsswitch.conf(5): a name that is in the hosts file has the
    /// addresses that stand there, and no other. The library would ask for the other family.
    pub(super) fn in_hosts_file(&self, question: &Question, name: &Name) -> Option<Reply> {
        let lookup = |family: Family| {
            self.hosts.lookup_static_host(&Query::query(name.clone(), family.into()))
        };
        match (lookup(question.family), lookup(question.family.other())) {
            (None, None) => None,
            (Some(lookup), _) => Some(Reply::new(question, &lookup)),
            (None, Some(_)) => {
                let answer = Err(DnsError::NoAddress(question.name.clone()));
                Some(Reply { answer, ttl: Duration::MAX })
            }
        }
    }
}

impl Ask for NameServers {
    fn ask(&self, question: &Question) -> BoxFuture<'static, Result<Reply, DnsError>> {
        let question = question.clone();
        // The final dot keeps search domains out: the name was allowed as it stands.
        let name = match Name::from_ascii(format!("{}.", question.name)) {
            Ok(name) => name,
            Err(error) => return failed(&question, error),
        };
        if let Some(reply) = self.in_hosts_file(&question, &name) {
            return future::ok(reply).boxed();
        }
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return failed(&question, error),
        };
        let budget = self.budget;
        async move {
            match client.lookup(name, question.family.into()).await {
                Ok(lookup) => Ok(Reply::new(&question, &lookup)),
                Err(error) => understand(question, error, budget),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for NameServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServers").finish_non_exhaustive()
    }
}

impl Reply {
    fn new(question: &Question, lookup: &Lookup) -> Self {
        let addresses: Arc<[IpAddr]> = lookup
            .answers()
            .iter()
            .filter(|record| record.record_type() == question.family.into())
            .filter_map(|record| record.data.ip_addr())
            .take(ADDRESSES)
            .collect();
        // Aliases count as well: the answer holds no longer than the shortest of them.
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let answer = if addresses.is_empty() {
            Err(DnsError::NoAddress(question.name.clone()))
        } else {
            Ok(addresses)
        };
        Self { answer, ttl: Duration::from_secs(ttl.into()) }
    }
}

impl From<Family> for RecordType {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::A,
            Family::V6 => Self::AAAA,
        }
    }
}

fn server_at(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn failed(
    question: &Question,
    error: impl Into<NetError>,
) -> BoxFuture<'static, Result<Reply, DnsError>> {
    future::err(DnsError::failed(&question.name, error)).boxed()
}

/// Tells an answer (there is no address) from a failure (nobody knows).
fn understand(question: Question, error: NetError, budget: Duration) -> Result<Reply, DnsError> {
    let Question { name, .. } = question;
    let (answer, ttl) = match error {
        NetError::Timeout => return Err(DnsError::TimedOut { name, after: budget }),
        NetError::Dns(ResponseError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NXDomain,
            negative_ttl,
            ..
        })) => (DnsError::NotFound(name), negative_ttl),
        NetError::Dns(ResponseError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NoError,
            negative_ttl,
            ..
        })) => (DnsError::NoAddress(name), negative_ttl),
        error => return Err(DnsError::failed(&name, error)),
    };
    Ok(Reply { answer: Err(answer), ttl: Duration::from_secs(ttl.unwrap_or(0).into()) })
}

/// How often the name servers are asked within the budget. Each time the slowest goes last, so a
/// dead one among them costs a third of the budget once.
const ATTEMPTS: u32 = 3;
/// The library counts what follows the first attempt.
const RETRIES: usize = ATTEMPTS as usize - 1;
/// How many addresses of a family are kept. An answer over TCP could bring thousands.
const ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::system_conf::parse_resolv_conf;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn question(name: &str, family: Family) -> Question {
        Question { name: name.parse().unwrap(), family }
    }

    #[tokio::test]
    async fn a_name_in_the_hosts_file_has_the_addresses_there_and_no_other() {
        let mut servers = NameServers::new(None, Duration::ZERO);
        servers.configure = Box::new(|| Err("nobody is to be asked".into()));
        let file = "10.0.10.103 hsm.test HSM2.test\nfd00::10 hsm.test\n";
        servers.hosts.read_hosts_conf(file.as_bytes()).unwrap();
        for (name, family, expected) in [
            ("hsm.test", Family::V4, Some("10.0.10.103")),
            ("hsm.test", Family::V6, Some("fd00::10")),
            ("hsm2.test", Family::V4, Some("10.0.10.103")),
            ("hsm2.test", Family::V6, None),
        ] {
            let reply = servers.ask(&question(name, family)).await.unwrap();
            let ip = reply.answer.ok().map(|ips| ips[0].to_string());
            assert_eq!(ip.as_deref(), expected, "{name} {family:?}");
        }
        let error = servers.ask(&question("other.test", Family::V4)).await.unwrap_err();
        assert!(matches!(error, DnsError::Failed { .. }));
    }

    #[test]
    fn name_servers_may_turn_up_after_the_start() {
        static NETWORK_IS_UP: AtomicBool = AtomicBool::new(false);
        let mut servers = NameServers::new(None, Duration::ZERO);
        servers.configure = Box::new(|| {
            let up = NETWORK_IS_UP.load(Ordering::Relaxed);
            let text = if up { "nameserver 127.0.0.53\nsearch corp.test" } else { "" };
            let (config, options) = parse_resolv_conf(text)?;
            Ok((config.into_parts().2, options))
        });
        assert!(servers.client().is_err());
        NETWORK_IS_UP.store(true, Ordering::Relaxed);
        servers.client().unwrap();
    }
}
