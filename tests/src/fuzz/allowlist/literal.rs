//! Rules and what they are asked, from few enough parts that they often have to do with each other.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use outproxy::allowlist::Rule;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Cid;

use crate::fuzz::cursor::Cursor;
use crate::fuzz::prohibited::bits;

/// A rule as it is written.
#[derive(Debug)]
pub(super) struct LiteralRule {
    pub(super) name: String,
    pub(super) hosts: Vec<Host>,
    ports: Vec<u16>,
    cids: Option<Vec<Cid>>,
}

impl LiteralRule {
    pub(super) fn new(index: usize, choices: &mut Cursor<'_>) -> Self {
        let hosts = (0..=choices.below(3)).map(|_| Host::pattern(choices)).collect();
        let ports = (0..=choices.below(2)).map(|_| choices.pick(&PORTS)).collect();
        let cids =
            choices.bool().then(|| (0..=choices.below(2)).map(|_| choices.pick(&CIDS)).collect());
        Self { name: format!("r{index}"), hosts, ports, cids }
    }

    /// The rule as outproxy understands it.
    pub(super) fn parse(&self) -> Rule {
        Rule::new(
            self.name.parse().expect("a name"),
            self.hosts.iter().map(|host| host.to_string().parse().expect("a pattern")).collect(),
            self.ports.iter().map(|number| port(*number)).collect(),
            self.cids.clone(),
            None,
        )
    }

    pub(super) fn matches(&self, query: &Query) -> bool {
        self.has_host(query) && self.has_port(query) && self.has_peer(query)
    }

    pub(super) fn has_host(&self, query: &Query) -> bool {
        self.hosts.iter().any(|host| host.covers(&query.host))
    }

    pub(super) fn has_port(&self, query: &Query) -> bool {
        self.ports.contains(&query.port)
    }

    pub(super) fn has_peer(&self, query: &Query) -> bool {
        self.cids.as_ref().is_none_or(|cids| query.peer.is_some_and(|peer| cids.contains(&peer)))
    }
}

/// A connection that somebody wants.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) peer: Option<Cid>,
    /// A name, or a block of one address.
    pub(super) host: Host,
    port: u16,
}

impl Query {
    pub(super) fn new(choices: &mut Cursor<'_>) -> Self {
        let host = match choices.below(3) {
            0 => Host::Name(labels(choices)),
            1 => Host::Block(v4(choices).into()),
            _ => Host::Block(v6(choices).to_canonical().into()),
        };
        let peer = choices.bool().then(|| choices.pick(&CIDS));
        Self { peer, host, port: choices.pick(&PORTS) }
    }

    pub(super) fn destination(&self) -> Destination {
        Destination { host: self.host.to_string().parse().expect("a host"), port: self.port() }
    }

    pub(super) fn port(&self) -> Port {
        port(self.port)
    }
}

/// One host or several.
#[derive(Debug)]
pub(super) enum Host {
    /// Every name with more labels than these, which come last.
    Below(Vec<&'static str>),
    /// Every address of a block, none of which is IPv4-mapped.
    Block(IpNet),
    /// The name of these labels.
    Name(Vec<&'static str>),
}

impl Host {
    fn pattern(choices: &mut Cursor<'_>) -> Self {
        match choices.below(6) {
            0 => Self::Name(labels(choices)),
            1 => Self::Below(labels(choices)),
            2 => Self::Block(v4(choices).into()),
            3 => Self::Block(v6(choices).to_canonical().into()),
            4 => Self::Block(block(v4(choices), choices.below(33))),
            _ => Self::Block(block(v6(choices), choices.below(129))),
        }
    }

    fn covers(&self, host: &Self) -> bool {
        match (self, host) {
            (Self::Below(suffix), Self::Name(labels)) => {
                labels.len() > suffix.len() && labels.ends_with(suffix)
            }
            (Self::Block(block), Self::Block(ip)) => bits(*ip).starts_with(&bits(*block)),
            (Self::Name(one), Self::Name(other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(labels) => write!(f, "*.{}", labels.join(".")),
            Self::Block(block) if block.prefix_len() == block.max_prefix_len() => {
                block.addr().fmt(f)
            }
            Self::Block(block) => block.fmt(f),
            Self::Name(labels) => f.write_str(&labels.join(".")),
        }
    }
}

fn labels(choices: &mut Cursor<'_>) -> Vec<&'static str> {
    (0..=choices.below(3)).map(|_| choices.pick(&LABELS)).collect()
}

fn v4(choices: &mut Cursor<'_>) -> IpAddr {
    [(); 4].map(|()| choices.pick(&OCTETS)).into()
}

fn v6(choices: &mut Cursor<'_>) -> IpAddr {
    [(); 8].map(|()| choices.pick(&GROUPS)).into()
}

/// The block of `ip` with this prefix; of an IPv4-mapped one, what it carries.
fn block(ip: IpAddr, prefix: usize) -> IpNet {
    let net = |ip, prefix| {
        let prefix = u8::try_from(prefix).expect("a prefix");
        IpNet::new(ip, prefix).expect("a block").trunc()
    };
    match (ip.to_canonical(), prefix.checked_sub(96)) {
        (IpAddr::V4(v4), Some(prefix)) if ip.is_ipv6() => net(v4.into(), prefix),
        _ => net(ip, prefix),
    }
}

fn port(number: u16) -> Port {
    i64::from(number).try_into().expect("a port")
}

const CIDS: [Cid; 6] =
    [Cid::HYPERVISOR, Cid::LOCAL, Cid::HOST, Cid::new(3), Cid::new(16), Cid::ANY];
const GROUPS: [u16; 16] = [
    0, 1, 0x64, 0x0200, 0x0ec2, 0x2001, 0x2002, 0x5efe, 0x7f00, 0xa9fe, 0xfd00, 0xfe80, 0xff02,
    0xff9b, 0xfffe, 0xffff,
];
const LABELS: [&str; 4] = ["a", "b", "com", "xn--bcher-kva"];
const OCTETS: [u8; 8] = [0, 1, 10, 127, 169, 224, 254, 255];
const PORTS: [u16; 4] = [1, 443, 2223, 65535];
