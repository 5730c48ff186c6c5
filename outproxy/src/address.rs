//! Addresses that a name must never lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tunnel::cidr::Cidr;

/// Whether a *name* that leads to `ip` is refused, unless the operator listed that very address.
///
/// Whoever answers for a name chooses its addresses (DNS rebinding), so a permitted name must not
/// open what only this machine can reach: its own services, and those that its hypervisor gives
/// to it alone. The instance metadata service hands out the credentials of its role.
///
/// Prohibited are, in IPv4, 0.0.0.0/8 and 127.0.0.0/8 (RFC 1122 section 3.2.1.3; Linux connects
/// 0.0.0.0 to itself), link-local 169.254.0.0/16 (RFC 3927; metadata, DNS and time on EC2),
/// multicast (RFC 5771) and 255.255.255.255 (RFC 919). In IPv6, `::`, `::1`, link-local fe80::/10
/// and multicast ff00::/8 (RFC 4291), and fd00:ec2::/32, where EC2 has what it has at 169.254 in
/// IPv4. And every IPv6 address that carries a prohibited IPv4 address: mapped, compatible,
/// translated, NAT64, 6to4, Teredo or ISATAP.
#[must_use]
pub fn is_prohibited(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_prohibited_v4(ip),
        IpAddr::V6(ip) => is_prohibited_v6(ip) || carried(ip).any(|(ip, _)| is_prohibited_v4(ip)),
    }
}

/// Whether [`is_prohibited`] holds for every address of a block.
#[must_use]
pub fn is_prohibited_block(block: Cidr) -> bool {
    let prefix = block.net().prefix_len();
    let ends = [block.net().network(), block.net().broadcast()];
    match ends {
        [IpAddr::V6(first), IpAddr::V6(last)] => {
            // The two ends speak for all between them, unless it is most of the Internet: ::/0
            // begins and ends with a prohibited address.
            let is_native = prefix >= LARGEST_V6 && [first, last].into_iter().all(is_prohibited_v6);
            // So does 64:ff9b::/96, which carries all of 0.0.0.0/0.
            is_native
                || carried(first).any(|(ip, at)| {
                    let prefix = prefix.saturating_sub(at).min(32);
                    let rest = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                    let bits = u32::from(ip);
                    let ends = [bits & !rest, bits | rest].map(Ipv4Addr::from);
                    prefix >= LARGEST_V4 && ends.into_iter().all(is_prohibited_v4)
                })
        }
        ends => prefix >= LARGEST_V4 && ends.into_iter().all(is_prohibited),
    }
}

fn is_prohibited_v4(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
}

fn is_prohibited_v6(ip: Ipv6Addr) -> bool {
    ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_unicast_link_local()
        || ip.is_multicast()
        || ip.segments().starts_with(&EC2_LOCAL)
}

/// The IPv4 addresses to which a gateway or a tunnel would pass on what is sent to `ip`, each with
/// the number of bits before it. All of a block that has a longer prefix is of the same format.
///
/// A translator that has a prefix of its network's own (RFC 6052 section 2.2) can't be told from
/// any other network. In 64:ff9b:1::/48, the one for local use, the address is taken to be in the
/// last 32 bits.
fn carried(ip: Ipv6Addr) -> impl Iterator<Item = (Ipv4Addr, u8)> {
    let at = |bits_before: u8, high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some((Ipv4Addr::new(a, b, c, d), bits_before))
    };
    let by_prefix = match ip.segments() {
        // IPv4-compatible (RFC 4291 section 2.5.5.1) and IPv4-mapped (2.5.5.2).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        // IPv4-translated (RFC 2765 section 2.1).
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // NAT64: the well-known prefix (RFC 6052), and the one for local use (RFC 8215).
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low] => at(96, high, low),
        // 6to4 (RFC 3056 section 2).
        [0x2002, high, low, ..] => at(16, high, low),
        // Teredo (RFC 4380 section 4): the client's address is obfuscated by inversion.
        [0x2001, 0, _, _, _, _, high, low] => at(96, !high, !low),
        _ => None,
    };
    // ISATAP (RFC 5214 section 6.1), in any network, also in one of those above.
    let by_interface = match ip.segments() {
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => at(96, high, low),
        _ => None,
    };
    by_prefix.into_iter().chain(by_interface)
}

/// fd00:ec2::/32: metadata at ::254, DNS at ::253, time at ::123, credentials of pods at ::23.
const EC2_LOCAL: [u16; 2] = [0xfd00, 0x0ec2];

/// The prefix of the largest prohibited block of IPv4: 224.0.0.0/4, multicast.
const LARGEST_V4: u8 = 4;

/// The same of IPv6: ff00::/8, multicast.
const LARGEST_V6: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_only_this_machine_can_reach_is_prohibited() {
        for ip in [
            "0.0.0.0",
            "0.255.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.123",
            "169.254.169.253",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.255.255",
            "224.0.0.0",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::",
            "fe80::1",
            "febf:ffff::1",
            "ff00::",
            "ff02::1",
            "fd00:ec2::23",
            "fd00:ec2::123",
            "fd00:ec2::253",
            "fd00:ec2::254",
        ] {
            assert!(is_prohibited(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn ipv6_that_carries_a_prohibited_address_is_prohibited() {
        for ip in [
            "::127.0.0.1",
            "::169.254.169.254",
            "::2",
            "::ffff:0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:255.255.255.255",
            "::ffff:0:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::224.0.0.1",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:fffe::169.254.169.254",
            "2001:db8::5efe:169.254.169.254",
            "2001:db8::200:5efe:127.0.0.1",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2001:0:1:2:3:4:5601:5601",
            "2001:0:1:2:0:5efe:5601:5601",
            "2002:a9fe:a9fe:0:0:5efe:10.0.10.103",
            "2002:a00:a67:0:0:5efe:127.0.0.1",
        ] {
            assert!(is_prohibited(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn addresses_of_networks_are_not_prohibited() {
        for ip in [
            "1.0.0.0",
            "10.0.10.103",
            "100.64.0.1",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.31.255.255",
            "192.168.1.1",
            "223.255.255.255",
            "255.255.255.254",
            "::10.0.10.103",
            "::ffff:10.0.10.103",
            "64:ff9b::10.0.10.103",
            "64:ff9b:1::10.0.10.103",
            "2001:0:1:2:3:4:f5ff:f598",
            "2001:db8::1",
            "2001:db8::5efe:10.0.10.103",
            "2002:a00:a67::1",
            "2600:1f18::1",
            "fbff::1",
            "fc00::1",
            "fd00::10",
            "fd00:ec3::254",
            "fe7f::1",
            "fec0::1",
        ] {
            assert!(!is_prohibited(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_block_is_prohibited_if_all_of_it_is() {
        for block in [
            "127.0.0.0/8",
            "127.1.0.0/16",
            "169.254.169.254",
            "224.0.0.0/4",
            "fe80::/10",
            "ff00::/8",
            "fd00:ec2::/32",
            "::/104",
            "64:ff9b::7f00:0/104",
            "64:ff9b:1:2:3:4:a9fe:0/112",
            "2002:a9fe::/32",
            "2002:a9fe:a9fe::/48",
            "2001:0:1:2:3:4:5601:5601",
            "2001:0:1:2:3:4:80ff:ff00/120",
            "fd00::200:5efe:7f00:0/104",
        ] {
            assert!(is_prohibited_block(block.parse().unwrap()), "{block}");
        }
        for block in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "10.0.0.0/8",
            "169.252.0.0/14",
            "224.0.0.0/3",
            "::/0",
            "::/1",
            "fe00::/7",
            "::/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "64:ff9b::7e00:0/103",
            "2002::/16",
            "2001::/32",
            "::ffff:0:0:0/96",
            "fd00::200:5efe:0:0/96",
        ] {
            assert!(!is_prohibited_block(block.parse().unwrap()), "{block}");
        }
    }

    proptest! {
        #[test]
        fn no_form_hides_an_ipv4_address(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let low = u128::from(bits);
            for prefix in [0, 0xffff << 32, 0xffff << 48, 0x64_ff9b << 96, 0x64_ff9b_0001_u128 << 80] {
                let hidden = Ipv6Addr::from(prefix | low);
                prop_assert_eq!(is_prohibited(hidden.into()), is_prohibited_v4(ip), "{}", hidden);
            }
        }
    }
}
