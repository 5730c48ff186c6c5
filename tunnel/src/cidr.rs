//! Blocks of addresses as operators write them, in the one form in which they are compared.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use crate::host::{Clamped, Host, HostError};

/// An address or a CIDR block (RFC 4632, RFC 4291 section 2.3), as in `10.0.10.103` or
/// `10.0.10.0/24`.
///
/// An IPv4-mapped address or block is the IPv4 one that it carries, and an address is the same as
/// its block of one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Cidr(IpNet);

impl Cidr {
    /// The address, if there is only one in the block.
    #[must_use]
    pub fn single(self) -> Option<IpAddr> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| self.0.addr())
    }

    /// Whether `ip` lies in the block. An IPv4-mapped address counts as what it carries.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// Whether every address of `other` lies in this block.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether some address lies in both. Of two blocks that do, one covers the other.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first address and the length of the prefix, whose other bits are zero.
    #[must_use]
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl From<IpAddr> for Cidr {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical().into())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = match address.parse() {
            Ok(ip) => ip,
            Err(_) => {
                address.parse::<Host>()?;
                return Err(CidrError::Name(text.into()));
            }
        };
        let Some(prefix) = prefix else {
            return Ok(ip.into());
        };
        let canonical = ip.to_canonical();
        // The IPv4 address is the last 32 bits of the mapped one, after 96 that are all fixed.
        let mapped = if ip == canonical { 0 } else { 96 };
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let net = Some(prefix)
            .filter(|prefix| prefix.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|prefix| prefix.parse::<u8>().ok()?.checked_sub(mapped))
            .and_then(|prefix| IpNet::new(canonical, prefix).ok())
            .ok_or_else(|| CidrError::Prefix { prefix: prefix.into(), min: mapped, max })?;
        if net != net.trunc() {
            return Err(CidrError::HostBits { text: text.into(), block: net.trunc() });
        }
        Ok(Self(net))
    }
}

impl TryFrom<Cow<'_, str>> for Cidr {
    type Error = CidrError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(ip) => ip.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

/// Why a text is neither an address nor a CIDR block.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum CidrError {
    /// What is before the slash is no host at all.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Bits are set behind the prefix: either the address or the prefix is not what was meant.
    #[error("`{text}` is not the start of its block; write `{block}`, or the address without `/`")]
    HostBits {
        /// What was written.
        text: Clamped,
        /// The block that it lies in.
        block: IpNet,
    },
    /// It is a name.
    #[error(
        "`{0}` is not an address; write one as in `10.0.10.103`, or a CIDR as in `10.0.10.0/24`"
    )]
    Name(Clamped),
    /// The prefix is no length that the address can have.
    #[error("prefix `{prefix}` is out of range; write a number from {min} to {max}")]
    Prefix {
        /// What was written.
        prefix: Clamped,
        /// The shortest prefix, in bits.
        min: u8,
        /// The longest prefix, in bits.
        max: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn blocks_are_compared_in_one_form() {
        assert_eq!(cidr("10.0.10.103/32"), cidr("10.0.10.103"));
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:10.0.0.1"), cidr("10.0.0.1"));
        assert_eq!(cidr("FD00:0::/64").to_string(), "fd00::/64");
        assert_eq!(cidr("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(cidr("fd00::1/128").to_string(), "fd00::1");
    }

    #[test]
    fn a_block_contains_mapped_addresses_and_none_of_the_other_family() {
        assert!(cidr("10.0.10.0/23").contains("10.0.11.255".parse().unwrap()));
        assert!(!cidr("10.0.10.0/23").contains("10.0.12.0".parse().unwrap()));
        assert!(cidr("10.0.10.0/23").contains("::ffff:10.0.10.1".parse().unwrap()));
        assert!(!cidr("::/0").contains("10.0.10.1".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.1.0.0/16")));
        assert!(cidr("10.1.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/9").overlaps(cidr("10.128.0.0/9")));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, expected) in [
            ("10.0.12.5/24", "write `10.0.12.0/24`, or the address"),
            ("::ffff:10.0.0.1/104", "write `10.0.0.0/8`"),
            ("fd00::1/64", "write `fd00::/64`"),
            ("10.0.0.0/33", "a number from 0 to 32"),
            ("10.0.0.0/", "a number from 0 to 32"),
            ("10.0.0.0/+8", "a number from 0 to 32"),
            ("10.0.0.0/8/8", "a number from 0 to 32"),
            ("fd00::/129", "a number from 0 to 128"),
            ("::ffff:10.0.0.0/95", "a number from 96 to 128"),
            ("10.0.0/8", "four decimal numbers"),
            ("010.0.0.0/8", "four decimal numbers"),
            ("hsm.example.com", "is not an address"),
            ("hsm.example.com/24", "is not an address"),
            ("fd00:/8", "not an IPv6 address"),
            ("", "not a host name"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_again_changes_nothing(
            ip in any::<IpAddr>(),
            prefix in 0u8..=128,
        ) {
            if let Ok(net) = IpNet::new(ip, prefix)
                && let Ok(cidr) = net.trunc().to_string().parse::<Cidr>()
            {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            }
        }
    }
}
