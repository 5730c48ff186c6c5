//! Which cluster a rule follows, and who is asked for its HSMs.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tunnel::destination::Destination;
use tunnel::host::{Clamped, Host};

/// A cluster of CloudHSM's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Its name at AWS.
    pub id: ClusterId,
    /// Where it is.
    pub region: Region,
    /// Who is asked. `None`: the region's public endpoint.
    pub endpoint: Option<EndpointUrl>,
    /// How often, more or less.
    pub interval: Duration,
}

impl Cluster {
    /// Whether the HSMs of one are those of the other, however often they are asked for.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.id, &self.region, &self.endpoint) == (&other.id, &other.region, &other.endpoint)
    }
}

/// How AWS calls a cluster: `cluster-`, then 11 to 16 letters and digits from 2 to 7.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub struct ClusterId(Arc<str>);

impl FromStr for ClusterId {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let is_known = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'2'..=b'7');
        match text.strip_prefix("cluster-") {
            Some(rest) if matches!(rest.len(), 11..=16) && rest.bytes().all(is_known) => {
                Ok(Self(text.into()))
            }
            _ => Err(ClusterError::Id(text.into())),
        }
    }
}

/// A region of AWS's, such as `ap-southeast-1`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Region(Box<str>);

impl FromStr for Region {
    type Err = ClusterError;

    /// It becomes part of the name of a host.
    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let parts: Vec<_> = text.split('-').collect();
        let is_part = |part: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            !part.is_empty() && part.bytes().all(is_plain)
        };
        if matches!(parts.len(), 3..=5) && text.len() <= 32 && parts.iter().all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(ClusterError::Region(text.into()))
        }
    }
}

/// Where the API is, if not where everybody finds it: `https://` and a host, perhaps with a port,
/// and without a path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Cow<'_, str>")]
pub struct EndpointUrl(Box<str>);

impl FromStr for EndpointUrl {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let host = |authority: &str| {
            let destination = authority.parse::<Destination>().map(|to| to.host);
            destination.ok().or_else(|| authority.parse().ok())
        };
        let is_good = match url.split_once("://") {
            // An address of IPv6 stands in brackets, which only a destination knows.
            Some(("https", authority)) => host(authority).is_some_and(|host| {
                !matches!(host, Host::Ip(ip) if ip.is_ipv6()) || authority.starts_with('[')
            }),
            // What signs a request goes along, and nobody else is to read that.
            Some(("http", authority)) => {
                matches!(host(authority), Some(Host::Ip(ip)) if ip.is_loopback())
            }
            _ => false,
        };
        if is_good { Ok(Self(url.into())) } else { Err(ClusterError::Endpoint(text.into())) }
    }
}

/// A text that stands for nothing of AWS's.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ClusterError {
    /// It is no URL that may be asked.
    #[error(
        "`{0}` is not the URL of an endpoint; write `https://` and a host, as in \
         `https://cloudhsmv2.ap-southeast-1.amazonaws.com`"
    )]
    Endpoint(Clamped),
    /// It is no identifier.
    #[error("`{0}` is not a cluster's ID; write it as in `cluster-teeultuftgy`")]
    Id(Clamped),
    /// It is no region.
    #[error("`{0}` is not a region; write it as in `ap-southeast-1`")]
    Region(Clamped),
}

macro_rules! text {
    ($($type:ident),+) => {$(
        impl $type {
            /// As it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<Cow<'_, str>> for $type {
            type Error = ClusterError;

            fn try_from(text: Cow<'_, str>) -> Result<Self, ClusterError> {
                text.parse()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text!(ClusterId, EndpointUrl, Region);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_calls_so_is_understood_and_nothing_else() {
        for id in ["cluster-teeultuftgy", "cluster-abcdefghijkLM237"] {
            assert_eq!(id.parse::<ClusterId>().unwrap().as_str(), id);
        }
        for id in ["", "teeultuftgy", "cluster-", "cluster-short", "cluster-teeultuft.y"] {
            assert!(id.parse::<ClusterId>().is_err(), "{id}");
        }
        for region in ["ap-southeast-1", "us-gov-west-1", "eu-isoe-west-1"] {
            assert_eq!(region.parse::<Region>().unwrap().as_str(), region);
        }
        for region in ["", "eu", "eu-west-", "EU-west-1", "a-b-c.evil.example/", "a-b-c#"] {
            assert!(region.parse::<Region>().is_err(), "{region}");
        }
    }

    #[test]
    fn an_endpoint_is_asked_by_tls_unless_it_is_on_this_machine() {
        for (url, kept) in [
            ("https://vpce-1.cloudhsmv2.eu-west-1.vpce.amazonaws.com/", None),
            ("https://10.0.0.9:8443", Some("https://10.0.0.9:8443")),
            ("https://[fd00::9]:443", Some("https://[fd00::9]:443")),
            ("http://127.0.0.1:5000/", Some("http://127.0.0.1:5000")),
            ("http://[::1]:5000", Some("http://[::1]:5000")),
        ] {
            let kept = kept.unwrap_or_else(|| url.trim_end_matches('/'));
            assert_eq!(url.parse::<EndpointUrl>().unwrap().as_str(), kept);
        }
        for url in [
            "",
            "cloudhsmv2.eu-west-1.amazonaws.com",
            "ftp://127.0.0.1",
            "http://10.0.0.9:5000",
            "http://localhost:5000",
            "https://",
            "https://fd00::9",
            "https://user@host",
            "https://host/path",
            "https://host:0",
        ] {
            assert!(url.parse::<EndpointUrl>().is_err(), "{url}");
        }
    }
}
