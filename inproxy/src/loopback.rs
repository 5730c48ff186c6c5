//! Loopback addresses for names.
//!
//! Two services on one port are told apart by their addresses. A name has none in the enclave, so
//! it gets one in 127.0.0.0/8, all of which is this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use tunnel::host::DnsName;

/// Gives each name a loopback address of its own, from 127.1.0.0 to 127.255.255.254.
///
/// The address follows from the name, whatever the order of the names, so that logs before and
/// after a restart agree. Only where two names would share one, the greater name gets the next.
#[must_use]
pub fn assign<'a>(names: impl IntoIterator<Item = &'a DnsName>) -> BTreeMap<DnsName, Ipv4Addr> {
    let names: BTreeSet<_> = names.into_iter().collect();
    let mut taken = BTreeSet::new();
    names
        .into_iter()
        .map(|name| {
            let mut offset = fnv1a(name.as_str()) % COUNT;
            // Ends, since no configuration has sixteen million names.
            while !taken.insert(offset) {
                offset = (offset + 1) % COUNT;
            }
            (name.clone(), Ipv4Addr::from_bits(FIRST + offset))
        })
        .collect()
}

/// The 32-bit FNV-1a hash (RFC 9923). The hashes of std may change with the compiler.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// 127.0.0.0/16 is for others: localhost, systemd-resolved (127.0.0.53), Docker's DNS
/// (127.0.0.11), Debian's host name (127.0.1.1).
const FIRST: u32 = Ipv4Addr::new(127, 1, 0, 0).to_bits();

/// Up to the broadcast address 127.255.255.255, which TCP cannot use.
const COUNT: u32 = Ipv4Addr::new(127, 255, 255, 255).to_bits() - FIRST;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn a_name_keeps_its_address_from_release_to_release() {
        let name = name("secretsmanager.ap-southeast-1.amazonaws.com");
        assert_eq!(assign([&name])[&name], Ipv4Addr::new(127, 172, 219, 23));
    }

    #[test]
    fn names_that_collide_get_addresses_of_their_own() {
        let names: Vec<_> = (0..20_000).map(|n| name(&format!("hsm{n}.example"))).collect();
        let hashes: BTreeSet<_> = names.iter().map(|n| fnv1a(n.as_str()) % COUNT).collect();
        assert!(hashes.len() < names.len(), "no two names collide");

        let addresses: BTreeSet<_> = assign(&names).into_values().collect();
        assert_eq!(addresses.len(), names.len());
    }

    proptest! {
        #[test]
        fn addresses_are_distinct_reserved_for_us_and_free_of_order(
            texts in prop::collection::vec("[a-z]{1,8}(\\.[a-z]{1,4})?", 0..50),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut names: Vec<_> = texts.iter().map(|text| name(text)).collect();
            let assigned = assign(&names);
            for address in assigned.values() {
                prop_assert_eq!(address.octets()[0], 127);
                prop_assert_ne!(address.octets()[1], 0);
                prop_assert!(!address.is_broadcast() && *address != Ipv4Addr::new(127, 255, 255, 255));
            }
            prop_assert_eq!(assigned.values().collect::<BTreeSet<_>>().len(), assigned.len());

            if !names.is_empty() {
                let middle = seed.index(names.len());
                names.rotate_left(middle);
                names.push(names[0].clone());
            }
            prop_assert_eq!(assign(&names), assigned);
        }
    }
}
