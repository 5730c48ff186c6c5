//! What an operator writes for one or more hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;
use tunnel::cidr::{Cidr, CidrError};
use tunnel::destination::Destination;
use tunnel::host::{Clamped, DnsName, Host, HostError};

/// One or more hosts: `10.0.10.103`, `10.0.12.0/24`, `hsm.example.com` or `*.example.com`.
///
/// A name matches only a client that asks for the name, an address or block only one that asks for
/// an address: what a name resolves to is not looked up here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Cow<'_, str>")]
pub enum HostPattern {
    /// This address, never IPv4-mapped.
    Address(IpAddr),
    /// This name.
    Name(DnsName),
    /// Every address of a block of more than one.
    Network(Cidr),
    /// Every name that ends in `.` and this, with one more label or several, but not this itself.
    ///
    /// The suffix may be a single label, since private zones such as `internal` are.
    Suffix(DnsName),
}

impl HostPattern {
    /// Whether `host` is one of the hosts.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Address(address), Host::Ip(ip)) => address == ip,
            (Self::Network(cidr), Host::Ip(ip)) => cidr.contains(*ip),
            (Self::Name(listed), Host::Name(name)) => listed == name,
            (Self::Suffix(suffix), Host::Name(name)) => is_below(name, suffix),
            _ => false,
        }
    }

    /// Whether this pattern makes `other` superfluous.
    ///
    /// A block does not replace an address in it, which also lifts the ban on reserved addresses:
    /// see [`Allowlist::lists_address`](super::Allowlist::lists_address).
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(this), Self::Network(other)) => this.covers(*other),
            (Self::Suffix(suffix), Self::Name(name) | Self::Suffix(name)) => {
                self == other || is_below(name, suffix)
            }
            _ => self == other,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.contains('*') {
            return match text.strip_prefix("*.") {
                Some(suffix) if !suffix.contains('*') => Ok(Self::Suffix(suffix.parse()?)),
                _ => Err(PatternError::Wildcard(text.into())),
            };
        }
        if text.contains('/') {
            let cidr: Cidr = text.parse()?;
            return Ok(cidr.single().map_or(Self::Network(cidr), Self::Address));
        }
        match text.parse() {
            Ok(Host::Ip(ip)) => Ok(Self::Address(ip)),
            Ok(Host::Name(name)) => Ok(Self::Name(name)),
            Err(_) if text.parse::<Destination>().is_ok() => Err(PatternError::Port(text.into())),
            Err(error) => Err(error.into()),
        }
    }
}

impl TryFrom<Cow<'_, str>> for HostPattern {
    type Error = PatternError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Network(cidr) => cidr.fmt(f),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// Why a text stands for no hosts.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PatternError {
    /// It has a slash, but is no CIDR block.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// It is no address and no name.
    #[error(transparent)]
    Host(#[from] HostError),
    /// It has a port.
    #[error("`{0}` has a port; write the host alone, and the port in `ports`")]
    Port(Clamped),
    /// A `*` stands where it has no meaning.
    #[error("`{0}` has a `*` that is not the whole first label; write as in `*.example.com`")]
    Wildcard(Clamped),
}

/// Whether `name` has all the labels of `suffix` and at least one in front of them.
fn is_below(name: &DnsName, suffix: &DnsName) -> bool {
    name.as_str().strip_suffix(suffix.as_str()).is_some_and(|labels| labels.ends_with('.'))
}
