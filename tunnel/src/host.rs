//! Hosts as operators and clients write them, in the one form in which they are compared.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::Deserialize;
use thiserror::Error;

/// An IP address or a DNS name, normalised, so that two hosts are equal when they compare equal.
///
/// IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2) become the IPv4 address that they carry.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub enum Host {
    /// An address, never IPv4-mapped.
    Ip(IpAddr),
    /// A name that still has to be resolved.
    Name(DnsName),
}

impl FromStr for Host {
    type Err = HostError;

    /// Parses an address without brackets, or a name.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        if text.contains(':') {
            return Err(HostError::Ipv6(text.into()));
        }
        text.parse().map(Self::Name)
    }
}

impl TryFrom<Cow<'_, str>> for Host {
    type Error = HostError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl From<Ipv6Addr> for Host {
    fn from(ip: Ipv6Addr) -> Self {
        IpAddr::from(ip).into()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A DNS name in its ASCII form (IDNA, UTS 46): lower case, without the final dot.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub struct DnsName(Box<str>);

impl DnsName {
    /// The name, without a final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let ascii = Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::URL,
                Hyphens::Allow,
                DnsLength::VerifyAllowRootDot,
            )
            .map_err(|_| HostError::Name(text.into()))?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if !name.bytes().all(is_name_byte) {
            return Err(HostError::Name(text.into()));
        }
        // inet_aton(3) reads `127.1`, `0x7f.1` and `2130706433` as addresses. A name whose last
        // label is a number could pass the allowlist as one thing and be dialled as another.
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Number(text.into()));
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<Cow<'_, str>> for DnsName {
    type Error = HostError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, HostError> {
        text.parse()
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a host. The text is clamped, since it may come from a hostile peer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum HostError {
    /// It has colons, but is no IPv6 address (RFC 4291 section 2.2).
    #[error("`{0}` is not an IPv6 address; write it as in `fd00::10`")]
    Ipv6(Clamped),
    /// It is not a DNS name, even after IDNA mapping.
    #[error("`{0}` is not a host name; write letters, digits, `-` and `.`")]
    Name(Clamped),
    /// It ends in a number, but is no IPv4 address in its canonical form.
    #[error("`{0}` is not an IPv4 address; write four decimal numbers as in `10.0.10.103`")]
    Number(Clamped),
}

/// A piece of somebody's text, short and printable whatever they sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Clamped(Box<str>);

impl Clamped {
    /// How many characters of the text are kept.
    pub const CHARS: usize = 80;
}

impl From<&str> for Clamped {
    fn from(text: &str) -> Self {
        let mut kept = String::new();
        for c in text.chars().take(Self::CHARS) {
            match c {
                '"' | '\'' => kept.push(c),
                _ => kept.extend(c.escape_debug()),
            }
        }
        if text.chars().nth(Self::CHARS).is_some() {
            kept.push('…');
        }
        Self(kept.into())
    }
}

impl fmt::Display for Clamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_are_compared_without_case_final_dot_or_unicode_form() {
        assert_eq!(host("HSM.Example.COM."), host("hsm.example.com"));
        assert_eq!(host("bücher.example"), host("xn--bcher-kva.example"));
        assert_eq!(host("ok。test。"), host("ok.test"));
        assert_eq!(host("_service._tcp.example").to_string(), "_service._tcp.example");
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_address_they_carry() {
        assert_eq!(host("::ffff:169.254.169.254"), host("169.254.169.254"));
        assert_eq!(host("2001:DB8:0::1").to_string(), "2001:db8::1");
    }

    #[test]
    fn addresses_in_another_notation_are_refused() {
        for text in [
            "0177.0.0.1",
            "0x7f.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "10.0.0.256",
            "1.2.3.4.",
            "010.0.0.1",
            "１２７.1",
            "0x",
        ] {
            assert!(matches!(text.parse::<Host>(), Err(HostError::Number(_))), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_host_are_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a\0b",
            "[::1]",
            "a%b",
            "-:1",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_shows_little_of_a_long_or_unprintable_text() {
        let error = format!("\u{1b}[2J{}", "a".repeat(10_000)).parse::<Host>().unwrap_err();
        let shown = error.to_string();
        assert!(shown.len() < 300 && !shown.contains('\u{1b}'), "{shown}");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_again_changes_nothing(text in "\\PC{0,40}|[0-9a-fx.:-]{1,20}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }
    }
}
