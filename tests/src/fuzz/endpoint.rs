//! What operators and clients write for hosts and endpoints.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use outproxy::allowlist::HostPattern;
use tunnel::cidr::Cidr;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Endpoint;
use tunnel::host::{DnsName, Host};
use tunnel::label::Label;

use super::inet;
use super::shown::assert_line;

/// What is understood has one form, and means what the C library would take it for.
pub fn endpoint(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    round_trip::<Port>(text);
    round_trip::<Label>(text);
    round_trip::<DnsName>(text);
    round_trip::<Destination>(text);
    if let Some(Endpoint::Tcp(destination)) = round_trip::<Endpoint>(text) {
        assert_eq!(text.strip_prefix("tcp:").map(str::parse), Some(Ok(destination)));
    }
    if let Some(cidr) = round_trip::<Cidr>(text) {
        // ::/80 ends in an IPv4-mapped address, which counts as the one that it carries.
        let ends = [cidr.net().network(), cidr.net().broadcast()];
        assert!(ends.iter().all(|ip| *ip != ip.to_canonical() || cidr.contains(*ip)));
    }
    round_trip::<HostPattern>(text);
    match round_trip::<Host>(text) {
        None => assert!(pton(text).is_none(), "an address is refused"),
        Some(Host::Ip(ip)) => assert_eq!(pton(text), Some(ip), "another address"),
        Some(host @ Host::Name(_)) => name(text, &host),
    }
    if let Ok(host) = text.parse::<Host>() {
        let pattern: HostPattern = text.parse().expect("a host is a pattern");
        assert!(pattern.matches(&host));
    }
}

/// It is not what the C library would dial without asking anybody, in whatever form it is left.
fn name(text: &str, host: &Host) {
    let plain = host.to_string();
    for form in [text, &plain, plain.trim_end_matches('.')] {
        assert_eq!(inet::aton(form), None, "`{form}` is an address for inet_aton");
        assert_eq!(inet::pton6(form), None, "`{form}` is an address for inet_pton");
    }
    assert!(plain.len() <= 253 && plain.split('.').all(|label| (1..=63).contains(&label.len())));
    assert!(
        plain.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    );
    for same in [text.to_ascii_uppercase(), plain.to_ascii_uppercase(), format!("{plain}.")] {
        assert_eq!(same.parse().as_ref(), Ok(host), "`{same}`");
    }
}

/// What inet_pton(3) takes it for, if for anything.
fn pton(text: &str) -> Option<IpAddr> {
    let v6 = || inet::pton6(text).map(|ip| IpAddr::from(ip).to_canonical());
    inet::pton4(text).map(IpAddr::from).or_else(v6)
}

fn round_trip<T>(text: &str) -> Option<T>
where
    T: Debug + Display + PartialEq + FromStr<Err: Display>,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            let again = printed.parse::<T>().unwrap_or_else(|error| panic!("`{printed}`: {error}"));
            assert_eq!(again, value);
            assert_eq!(again.to_string(), printed);
            Some(value)
        }
        Err(error) => {
            // Of one text or two, of which 80 characters are shown, each at most `\u{10ffff}`.
            assert_line(&error.to_string(), 2 * 80 * 10 + 200);
            None
        }
    }
}
