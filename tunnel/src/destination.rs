//! Where a tunnel leads: a host and a TCP port.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::host::{Clamped, Host, HostError};

/// A host and a port, as in `10.0.10.103:2223`, `[fd00::10]:2223` or `hsm.example.com:2223`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Destination {
    /// The address or name.
    pub host: Host,
    /// The TCP port.
    pub port: Port,
}

impl FromStr for Destination {
    type Err = DestinationError;

    /// Parses the authority form of RFC 9110 section 9.3.6, in which IPv6 stands in brackets.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once("]:").ok_or_else(|| DestinationError::Port(text.into()))?;
                (
                    Host::from(
                        host.parse::<std::net::Ipv6Addr>()
                            .map_err(|_| HostError::Ipv6(host.into()))?,
                    ),
                    port,
                )
            }
            None => {
                let (host, port) =
                    text.rsplit_once(':').ok_or_else(|| DestinationError::Port(text.into()))?;
                if host.contains(':') {
                    return Err(DestinationError::Brackets(text.into()));
                }
                (host.parse()?, port)
            }
        };
        Ok(Self { host, port: port.parse()? })
    }
}

impl TryFrom<Cow<'_, str>> for Destination {
    type Error = DestinationError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(std::net::IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// A TCP port that can be connected to: 1 to 65535.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "i64")]
pub struct Port(NonZeroU16);

impl Port {
    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        // `u16::from_str` takes a sign, which no other reader of an authority does.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PortError(text.into()));
        }
        text.parse().map(Self).map_err(|_| PortError(text.into()))
    }
}

impl TryFrom<i64> for Port {
    type Error = PortError;

    fn try_from(number: i64) -> Result<Self, PortError> {
        u16::try_from(number)
            .ok()
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| PortError(number.to_string().as_str().into()))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a destination.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DestinationError {
    /// An IPv6 address stands without brackets.
    #[error(
        "`{0}` has more than one colon; write an IPv6 address in brackets, as in `[fd00::10]:2223`"
    )]
    Brackets(Clamped),
    /// The host is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There is no port.
    #[error("`{0}` has no port; write `<host>:<port>`")]
    Port(Clamped),
    /// The port is none.
    #[error(transparent)]
    PortNumber(#[from] PortError),
}

/// A port that is not a number from 1 to 65535.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("port `{0}` is out of range; write a number from 1 to 65535")]
pub struct PortError(Clamped);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_three_forms_are_parsed_and_printed() {
        for text in ["10.0.10.103:2223", "[fd00::10]:2223", "hsm.example.com:443"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        let mapped: Destination = "[::ffff:10.0.10.103]:2223".parse().unwrap();
        assert_eq!(mapped.to_string(), "10.0.10.103:2223");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, expected) in [
            ("10.0.10.103", "has no port"),
            ("fd00::10:2223", "in brackets"),
            ("10.0.10.103:65979", "1 to 65535"),
            ("10.0.10.103:0", "1 to 65535"),
            ("10.0.10.103:+1", "1 to 65535"),
            ("10.0.10.103:", "1 to 65535"),
            ("[10.0.10.103]:1", "IPv6"),
            ("[fd00::10]", "has no port"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_again_changes_nothing(text in "\\PC{0,40}|[0-9a-f.:\\[\\]]{1,30}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
            }
        }
    }
}
