//! Every destination of every rule, each address on its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tunnel::chain::Chain;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Cid;
use tunnel::examination::{Finding, in_milliseconds, milliseconds};
use tunnel::host::{DnsName, Host};
use tunnel::resources::raise_descriptor_limit;

use super::certificate::Authorities;
use super::verdict::{TlsDetails, is_https, judge};
use super::{Details, advice, tls};
use crate::allowlist::{HostPattern, Rule};
use crate::dial::DialError;
use crate::policy::Policy;
use crate::resolver::{DnsError, Family};

/// How many destinations are tried at once at most, if there are descriptors for so many.
pub const MOST_AT_ONCE: usize = 512;
/// How many names are looked up at once.
const LOOKUPS_AT_ONCE: usize = 64;
/// How long an attempt may take, whatever `connect-timeout` says.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) struct Prober<'a> {
    policy: &'a Policy,
    authorities: Option<&'a Authorities>,
    limit: Duration,
    attempts: Semaphore,
    lookups: Semaphore,
}

impl<'a> Prober<'a> {
    pub(super) fn new(policy: &'a Policy, authorities: Option<&'a Authorities>) -> Self {
        let descriptors = raise_descriptor_limit().unwrap_or(LEAST_DESCRIPTORS);
        let spare = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Self {
            policy,
            authorities,
            limit: policy.limits.connect_timeout.min(LONGEST),
            attempts: Semaphore::new(spare.clamp(1, MOST_AT_ONCE)),
            lookups: Semaphore::new((spare / 4).clamp(1, LOOKUPS_AT_ONCE)),
        }
    }

    /// What became of all destinations of a rule, in the order of the file.
    pub(super) async fn examine(&self, rule: &Rule) -> Vec<Finding<Details>> {
        // Any of its clients will do: which one matters only to rules that list reserved addresses.
        let client = rule.cids.as_ref().and_then(|cids| cids.first().copied());
        if let Some(cluster) = &rule.cluster {
            return self.cluster(client, cluster, &rule.ports).await;
        }
        let hosts = rule.hosts.iter().map(async |pattern| match pattern {
            HostPattern::Address(ip) => self.address(client, *ip, &rule.ports).await,
            HostPattern::Name(name) => self.name(client, name, &rule.ports).await,
            HostPattern::Network(_) | HostPattern::Suffix(_) => {
                let found = "stands for many hosts; list one to have it tried";
                vec![Finding::skipped(pattern.to_string(), found).with(Details::default())]
            }
        });
        join_all(hosts).await.into_iter().flatten().collect()
    }

    pub(super) async fn address(
        &self,
        client: Option<Cid>,
        ip: IpAddr,
        ports: &[Port],
    ) -> Vec<Finding<Details>> {
        let attempts = ports.iter().map(async |port| {
            let destination = Destination { host: ip.into(), port: *port };
            let subject = destination.to_string();
            match self.dial(client, &destination, ip).await {
                Ok(answer) => answer.into_finding(subject, &destination, self.authorities),
                Err(error) => failure(subject, &destination, ip, &error),
            }
        });
        join_all(attempts).await
    }

    /// What the name leads to, and then each of these addresses on each port.
    async fn name(
        &self,
        client: Option<Cid>,
        name: &DnsName,
        ports: &[Port],
    ) -> Vec<Finding<Details>> {
        let (finding, addresses) = self.resolve(name).await;
        let both = addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6);
        let pairs = addresses.iter().flat_map(|ip| ports.iter().map(move |port| (*ip, *port)));
        let attempts = pairs.map(async |(ip, port)| {
            let destination = Destination { host: Host::Name(name.clone()), port };
            let subject = format!("{destination} at {ip}");
            match self.dial(client, &destination, ip).await {
                Ok(answer) => answer.into_finding(subject, &destination, self.authorities),
                Err(DialError::Unreachable { .. }) if both && ip.is_ipv6() => {
                    let found = "this machine has no way to it; clients get the IPv4 addresses";
                    let details = details(&destination, ip);
                    Finding::skipped(subject, found).with(details)
                }
                Err(error) => failure(subject, &destination, ip, &error),
            }
        });
        let mut findings = vec![finding];
        findings.extend(join_all(attempts).await);
        findings
    }

    async fn resolve(&self, name: &DnsName) -> (Finding<Details>, Vec<IpAddr>) {
        // It is never closed.
        let _slot = self.lookups.acquire().await;
        let started = Instant::now();
        let mut lookup = self.policy.resolver.lookup(name);
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut failures: Vec<(Family, DnsError)> = Vec::new();
        while let Some((family, answer)) = lookup.next().await {
            match answer {
                Ok(found) => addresses.extend(found.iter().map(IpAddr::to_canonical)),
                Err(error) => failures.push((family, error)),
            }
        }
        let took = started.elapsed();
        addresses.sort_unstable();
        addresses.dedup();
        let details = Details { milliseconds: Some(milliseconds(took)), ..Details::default() };
        let finding = judge_lookup(name, &addresses, failures, took);
        (finding.with(details), addresses)
    }

    async fn dial(
        &self,
        client: Option<Cid>,
        destination: &Destination,
        ip: IpAddr,
    ) -> Result<Answer, DialError> {
        // It is never closed.
        let _slot = self.attempts.acquire().await;
        let started = Instant::now();
        let mut stream = self.policy.dial_address(client, destination, ip, self.limit).await?;
        let connected = started.elapsed();
        let greeting = tls::greet(&mut stream, &destination.host, self.limit).await;
        stream.take_leave(GOODBYE).await;
        Ok(Answer { ip, connected, greeting })
    }
}

/// What answered.
struct Answer {
    ip: IpAddr,
    connected: Duration,
    greeting: tls::Greeting,
}

impl Answer {
    fn into_finding(
        self,
        subject: String,
        destination: &Destination,
        authorities: Option<&Authorities>,
    ) -> Finding<Details> {
        // The certificates of the web are not the operator's.
        let authorities = authorities.filter(|_| !is_https(destination));
        let Self { ip, connected, greeting } = self;
        let details = Details {
            milliseconds: Some(milliseconds(connected)),
            tls: TlsDetails::new(&greeting, authorities),
            ..details(destination, ip)
        };
        judge(subject, destination, connected, &greeting, authorities).with(details)
    }
}

fn judge_lookup(
    name: &DnsName,
    addresses: &[IpAddr],
    mut failures: Vec<(Family, DnsError)>,
    took: Duration,
) -> Finding {
    let subject = name.to_string();
    // The last is the most telling one.
    failures.sort_by_key(|(_, error)| error.rank());
    let took = in_milliseconds(took);
    match failures.pop() {
        Some((_, error)) if addresses.is_empty() => {
            let (problem, advice) = advice::on(&DialError::Dns(error.clone()));
            let found = format!("{} (after {took})", Chain(&error));
            Finding::failed(subject, problem, found, advice)
        }
        Some((family, error)) if !matches!(error, DnsError::NoAddress(_)) => {
            let kind = if family == Family::V6 { "AAAA" } else { "A" };
            let found = format!("is {} in {took}; {kind}: {}", list(addresses), Chain(&error));
            Finding::warning(subject, "half-resolved", found, advice::HALF_RESOLVED)
        }
        _ => Finding::ok(subject, format!("is {} in {took}", list(addresses))),
    }
}

fn list(addresses: &[IpAddr]) -> String {
    let shown = addresses.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>();
    let more = addresses.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

fn failure(
    subject: String,
    destination: &Destination,
    ip: IpAddr,
    error: &DialError,
) -> Finding<Details> {
    let (problem, advice) = advice::on(error);
    let found = Chain(error).to_string();
    Finding::failed(subject, problem, found, advice).with(details(destination, ip))
}

fn details(destination: &Destination, ip: IpAddr) -> Details {
    Details {
        destination: Some(destination.to_string()),
        address: Some(SocketAddr::new(ip, destination.port.get())),
        ..Details::default()
    }
}

/// What is there if the limit cannot be read.
const LEAST_DESCRIPTORS: u64 = 256;
/// How long an upstream is given to close, too.
const GOODBYE: Duration = Duration::from_millis(500);
/// How many addresses of a name are shown to people.
const SHOWN: usize = 8;
