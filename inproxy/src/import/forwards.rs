//! What socats lead to, as forwards.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use tunnel::cidr::Cidr;
use tunnel::destination::Port;
use tunnel::endpoint::{Cid, Endpoint};
use tunnel::host::{DnsName, Host};
use tunnel::import::comment;
use tunnel::import::names::is_localhost;
use tunnel::import::script::Command;
use tunnel::import::socat::{self, Kind};
use tunnel::import::source::{Place, Source};

use super::{Found, Listener};
use crate::config::reason_to_refuse;

/// A raw forward.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) local: Local,
    pub(super) port: Port,
    pub(super) via: Endpoint,
    pub(super) origin: Place,
}

/// What becomes local.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Local {
    Address(IpAddr),
    Host(DnsName),
}

/// `socat TCP-LISTEN:2223,fork VSOCK-CONNECT:3:2223`; whether inproxy does that.
pub(super) fn socat(
    file: usize,
    source: &mut Source,
    command: &Command,
    found: &mut Found,
) -> bool {
    let arguments = command.program().map_or(&[][..], |(_, arguments)| arguments);
    let before = source.mistakes.len();
    let Some(socat) = socat::parse(arguments, &mut source.mistakes) else {
        if source.mistakes.len() == before {
            source.note(&command.at, "stays: this socat is not between TCP and vsock");
        }
        return false;
    };
    let (Kind::TcpListen(bind, port), Kind::Vsock(cid, vsock_port)) =
        (socat.listen.kind, socat.connect.kind)
    else {
        source
            .note(&command.at, "stays: this socat leads into the enclave; inproxy leads out of it");
        return false;
    };
    if cid == Cid::ANY {
        let message = "`any` is only for listening; write the CID of the parent, which is 3";
        source.mistakes.add(socat.connect.at, message);
    }
    if !socat.rest.is_empty() {
        let rest = comment(&socat.rest.join(" "));
        source.note(&command.at, format!("`{rest}` has no counterpart"));
    }
    found.listeners.push(Listener {
        bind,
        port,
        via: Endpoint::Vsock { cid, port: vsock_port },
        file,
        at: command.at.clone(),
        origin: source.place(&command.at),
    });
    true
}

/// A forward for each address or name and port that a socat served.
pub(super) fn forwards(found: &Found, sources: &mut [Source]) -> Vec<Forward> {
    let mut forwards = Vec::new();
    let mut taken: HashMap<(Local, Port), Place> = HashMap::new();
    // Those that are bound to an address come before those that take what is left.
    let (bound, unbound): (Vec<_>, Vec<_>) =
        found.listeners.iter().partition(|listener| address(listener, found).is_some());
    for listener in bound.into_iter().chain(unbound) {
        let source = &mut sources[listener.file];
        for local in locals(listener, source, found) {
            let key = (local.clone(), listener.port);
            match taken.get(&key) {
                None => {
                    taken.insert(key, listener.origin.clone());
                    forwards.push(Forward {
                        local,
                        port: listener.port,
                        via: listener.via.clone(),
                        origin: listener.origin.clone(),
                    });
                }
                Some(other) if listener.bind.is_some() => source.mistakes.add(
                    listener.at.clone(),
                    format!("port {} is taken by {other}; write another one", listener.port),
                ),
                Some(_) => {}
            }
        }
    }
    forwards
}

/// The address that a socat listens on; nothing if it is every one.
fn address(listener: &Listener, found: &Found) -> Option<IpAddr> {
    let ip = match listener.bind.as_ref()? {
        Host::Ip(ip) => *ip,
        Host::Name(name) if is_localhost(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Name(name) => found.names.iter().find(|(_, known)| known == name)?.0,
    };
    (!ip.is_unspecified()).then_some(ip)
}

fn locals(listener: &Listener, source: &mut Source, found: &Found) -> Vec<Local> {
    if let Some(ip) = address(listener, found) {
        let names: Vec<_> = names_of(found, |other| other == ip).collect();
        if ip.is_loopback() && !names.is_empty() {
            if names.len() > 1 {
                let text =
                    format!("led every name of `{ip}` to one place; remove what is not used");
                source.note(&listener.at, text);
            }
            return names;
        }
        if let Some(reason) = reason_to_refuse(ip.into()) {
            source.mistakes.add(listener.at.clone(), reason);
        }
        return vec![Local::Address(ip)];
    }
    if let Some(Host::Name(name)) = &listener.bind {
        let message = format!("where `{name}` leads is not known here; write an address");
        source.mistakes.add(listener.at.clone(), message);
        return Vec::new();
    }
    every(listener, source, found)
}

/// Of what a socat on every address serves, what its port is for: HSMs have addresses, and other
/// services have names.
fn every(listener: &Listener, source: &mut Source, found: &Found) -> Vec<Local> {
    let addresses: Vec<_> = found.locals.iter().filter_map(|local| local.single()).collect();
    let addresses = addresses.into_iter().filter(|ip| !ip.is_loopback()).map(Local::Address);
    let addresses: Vec<_> = addresses.collect();
    let names: Vec<_> = names_of(found, |ip| ip.is_loopback()).collect();
    let is_for_addresses = names.is_empty() || is_hsm(listener.port) && !addresses.is_empty();
    let locals = if is_for_addresses { addresses } else { names };
    if locals.is_empty() {
        return vec![Local::Address(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    }
    let what = if is_for_addresses { "the addresses on `lo`" } else { "the names in /etc/hosts" };
    source.note(&listener.at, format!("listened on every address; is for {what} now"));
    locals
}

fn names_of(found: &Found, is_meant: impl Fn(IpAddr) -> bool) -> impl Iterator<Item = Local> {
    found
        .names
        .iter()
        .filter(move |(ip, _)| is_meant(*ip))
        .map(|(_, name)| Local::Host(name.clone()))
}

/// CloudHSM's.
pub(super) const HSM_PORTS: RangeInclusive<u16> = 2223..=2225;

/// Whether it is one of [`HSM_PORTS`].
pub(super) fn is_hsm(port: Port) -> bool {
    HSM_PORTS.contains(&port.get())
}

/// The network of an address, as networks are made by default, for what is better than single
/// addresses. Where that has addresses that are refused, it is the address alone.
pub(super) fn subnet(ip: IpAddr) -> Cidr {
    let prefix = if ip.is_ipv4() { 24 } else { 64 };
    let net = ipnet::IpNet::new(ip, prefix).ok();
    let net = net.and_then(|net| net.trunc().to_string().parse().ok());
    net.filter(|net| reason_to_refuse(*net).is_none()).unwrap_or_else(|| ip.into())
}
