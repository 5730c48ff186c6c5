//! Destinations, grouped into rules.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tunnel::destination::Port;
use tunnel::host::Host;
use tunnel::import::names::{self, Names, is_localhost};

use super::{Entry, Found};
use crate::allowlist::HSM_PORTS;

/// An `[[allow]]`.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) hosts: Vec<Allowed>,
    pub(super) ports: BTreeSet<Port>,
}

/// A host of a rule, and what the file says about it.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) host: Host,
    pub(super) comments: Vec<String>,
}

/// The rules, in the order in which their first hosts were found.
pub(super) fn rules(found: &Found) -> Vec<Rule> {
    let mut hosts: Vec<(Allowed, BTreeSet<Port>)> = Vec::new();
    let mut known: HashMap<Host, usize> = HashMap::new();
    for Entry { host, port, comments } in entries(found) {
        let index = *known.entry(host.clone()).or_insert_with(|| {
            hosts.push((Allowed { host, comments: Vec::new() }, BTreeSet::new()));
            hosts.len() - 1
        });
        hosts[index].0.comments.extend(comments);
        hosts[index].1.insert(port);
    }
    let mut rules: Vec<Rule> = Vec::new();
    let mut groups: HashMap<(String, BTreeSet<Port>), usize> = HashMap::new();
    let mut names = Names::default();
    for (allowed, ports) in hosts {
        let stem = stem(&allowed.host, &ports);
        let index = *groups.entry((stem.clone(), ports.clone())).or_insert_with(|| {
            let name = names.give(&stem);
            rules.push(Rule { name, hosts: Vec::new(), ports });
            rules.len() - 1
        });
        rules[index].hosts.push(allowed);
    }
    rules
}

/// What is allowed, or, without an allowlist, what the listeners lead to.
fn entries(found: &Found) -> Vec<Entry> {
    let listed = found.entries.iter().flatten().cloned();
    let led_to = found.listeners.iter().map(|listener| Entry {
        host: listener.to.host.clone(),
        port: listener.to.port,
        comments: Vec::new(),
    });
    listed.chain(led_to).flat_map(with_addresses).collect()
}

/// A name that leads to this machine is refused unless the address is listed, too.
fn with_addresses(entry: Entry) -> Vec<Entry> {
    let addresses = match &entry.host {
        Host::Name(name) if is_localhost(name) => LOOPBACK,
        _ => &[],
    };
    let port = entry.port;
    let address = |ip: &IpAddr| Entry { host: Host::from(*ip), port, comments: Vec::new() };
    let addresses: Vec<_> = addresses.iter().map(address).collect();
    [entry].into_iter().chain(addresses).collect()
}

/// What a rule for the host is called: after the service, where that can be told.
fn stem(host: &Host, ports: &BTreeSet<Port>) -> String {
    match host {
        Host::Ip(ip) if ip.is_loopback() => "localhost".into(),
        Host::Ip(_) if ports.iter().any(|port| HSM_PORTS.contains(&port.get())) => "hsm".into(),
        Host::Ip(_) => {
            let port = ports.iter().next().map(ToString::to_string).unwrap_or_default();
            format!("port-{port}")
        }
        Host::Name(name) if is_localhost(name) => "localhost".into(),
        Host::Name(name) => names::stem(name).into(),
    }
}

const LOOPBACK: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
