use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use tunnel::limits::MaxConnections;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn destination(text: &str) -> Destination {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn rule(name: &str, hosts: &[&str], ports: &[i64], cids: Option<&[u32]>, max: Option<i64>) -> Rule {
    Rule::new(
        name.parse().unwrap(),
        hosts.iter().map(|text| pattern(text)).collect(),
        ports.iter().map(|port| Port::try_from(*port).unwrap()).collect(),
        cids.map(|cids| cids.iter().copied().map(Cid::new).collect()),
        max.map(|max| MaxConnections::try_from(max).unwrap()),
    )
}

/// The name of the rule, or why there is none.
fn find(allowlist: &Allowlist, peer: Option<u32>, text: &str) -> String {
    match allowlist.find(peer.map(Cid::new), &destination(text)) {
        Ok(rule) => rule.name.to_string(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn who_depends_on_a_cluster_waits_for_it_and_nobody_else() {
    let following = rule("hsm", &[], &[2223], Some(&[16]), None).following(Arc::new(Cluster {
        id: "cluster-teeultuftgy".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        endpoint: None,
        interval: std::time::Duration::from_secs(60),
    }));
    let later = rule("later", &["10.0.12.0/24"], &[2223], None, None);
    let mut allowlist = Allowlist::new(vec![following, later]);
    for (peer, to, expected) in [
        (Some(16), "10.0.10.103:2223", true),
        (Some(17), "10.0.10.103:2223", false),
        (None, "10.0.10.103:2223", false),
        (Some(16), "10.0.10.103:22", false),
        (Some(16), "hsm.example:2223", false),
        // Another rule allows it.
        (Some(16), "10.0.12.9:2223", false),
    ] {
        let awaited = allowlist.awaits(peer.map(Cid::new), &destination(to));
        assert_eq!(awaited.is_some(), expected, "{peer:?} {to}");
    }
    allowlist.set_members(|_| {
        let [allowed, draining] = ["10.0.12.9", "10.0.10.103"].map(|ip| ip.parse().unwrap());
        Some(Members { allowed: [allowed].into(), draining: [draining].into() })
    });
    assert_eq!(find(&allowlist, Some(16), "10.0.12.9:2223"), "hsm");
    assert_eq!(find(&allowlist, Some(17), "10.0.12.9:2223"), "later");
    let going = destination("10.0.10.103:2223");
    assert_eq!(allowlist.awaits(Some(Cid::new(16)), &going), None);
    assert!(allowlist.keeps(Some(Cid::new(16)), &going));
    assert!(!allowlist.keeps(Some(Cid::new(17)), &going));
}

#[test]
fn patterns_are_parsed_and_printed() {
    for text in
        ["10.0.10.103", "10.0.12.0/24", "fd00::/8", "a.example", "*.example.com", "*.internal"]
    {
        assert_eq!(pattern(text).to_string(), text);
    }
    assert_eq!(pattern("10.0.12.7/32"), pattern("::ffff:10.0.12.7"));
    assert_eq!(pattern("*.EXAMPLE.com."), pattern("*.example.com"));
    assert_eq!(pattern("*.bücher.example"), pattern("*.xn--bcher-kva.example"));
}

#[test]
fn mistakes_in_patterns_say_what_to_write() {
    for (text, expected) in [
        ("*", "write as in `*.example.com`"),
        ("*foo.com", "write as in `*.example.com`"),
        ("foo.*.com", "write as in `*.example.com`"),
        ("*.*.com", "write as in `*.example.com`"),
        ("*.", "not a host name"),
        ("*.10.0.0", "is not an IPv4 address"),
        ("10.0.12.5/24", "write `10.0.12.0/24`"),
        ("10.0.10.103:2223", "write the host alone, and the port in `ports`"),
        ("hsm.example.com:2223", "write the host alone"),
        ("[fd00::1]:2223", "write the host alone"),
        ("[fd00::1]", "write it as in `fd00::10`"),
        ("0x7f.1", "four decimal numbers"),
        ("a b", "not a host name"),
    ] {
        let error = text.parse::<HostPattern>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_suffix_matches_what_is_below_it_only() {
    for (host, expected) in [
        ("a.example.com", true),
        ("A.B.Example.Com.", true),
        ("example.com", false),
        ("badexample.com", false),
        ("a.example.com.evil", false),
        ("10.0.0.1", false),
    ] {
        assert_eq!(pattern("*.example.com").matches(&host.parse().unwrap()), expected, "{host}");
    }
}

#[test]
fn a_client_cannot_get_around_a_rule_by_writing_the_host_differently() {
    let allowlist = Allowlist::new(vec![rule("a", &["10.0.0.0/8", "a.example"], &[1], None, None)]);
    for text in ["10.1.2.3:1", "[::ffff:10.1.2.3]:1", "A.EXAMPLE.:1"] {
        assert_eq!(find(&allowlist, None, text), "a");
    }
    assert_eq!(find(&allowlist, None, "[::10.1.2.3]:1"), "no rule lists `::a01:203`");
}

#[test]
fn the_first_rule_that_matches_decides_even_at_its_limit() {
    let allowlist = Allowlist::new(vec![
        rule("one", &["10.0.0.1"], &[1], None, Some(1)),
        rule("all", &["10.0.0.0/24"], &[1], None, None),
    ]);
    let _permit = allowlist.rules()[0].try_acquire().unwrap();
    assert_eq!(find(&allowlist, None, "10.0.0.1:1"), "one");
    assert_eq!(
        allowlist.rules()[0].try_acquire().unwrap_err().to_string(),
        "rule `one` has reached its 1 connections; see its `max-connections`"
    );
    assert_eq!(find(&allowlist, None, "10.0.0.2:1"), "all");
}

#[test]
fn a_refusal_says_what_the_nearest_rule_lacks() {
    let allowlist = Allowlist::new(vec![
        rule("web", &["10.0.10.103"], &[443], None, None),
        rule("hsm", &["10.0.10.103"], &[2223], Some(&[16]), None),
    ]);
    for (peer, text, expected) in [
        (Some(16), "10.0.10.103:2223", "hsm"),
        (Some(16), "10.0.20.5:2223", "no rule lists `10.0.20.5`"),
        (Some(16), "10.0.10.103:22", "rule `web` lists `10.0.10.103`, but not port 22"),
        (Some(17), "10.0.10.103:2223", "rule `hsm` lists `10.0.10.103:2223`, but not for CID 17"),
        (
            None,
            "10.0.10.103:2223",
            "rule `hsm` lists `10.0.10.103:2223`, but not for a client without a CID",
        ),
    ] {
        assert_eq!(find(&allowlist, peer, text), expected);
    }
    assert_eq!(find(&Allowlist::default(), None, "a:1"), "no rule lists `a`");
}

#[test]
fn only_an_address_that_is_listed_itself_lifts_the_ban_on_it() {
    let allowlist = Allowlist::new(vec![
        rule("all", &["0.0.0.0/0", "*.internal"], &[80], None, None),
        rule("imds", &["169.254.169.254"], &[80], Some(&[16]), None),
    ]);
    let lists = |peer, ip: &str, port| {
        allowlist.lists_address(
            Some(Cid::new(peer)),
            ip.parse().unwrap(),
            Port::try_from(port).unwrap(),
        )
    };
    assert!(lists(16, "169.254.169.254", 80));
    assert!(lists(16, "::ffff:169.254.169.254", 80));
    assert!(!lists(17, "169.254.169.254", 80));
    assert!(!lists(16, "169.254.169.254", 81));
    assert!(!lists(16, "127.0.0.1", 80));
}

#[test]
fn a_block_counts_as_meant_only_if_all_of_it_is_prohibited() {
    let hosts = ["0.0.0.0/0", "127.0.0.0/8", "::/0", "64:ff9b::/96", "2002::/16"];
    let allowlist = Allowlist::new(vec![rule("all", &hosts, &[80], None, None)]);
    let lists = |ip: &str| {
        allowlist.lists_prohibited_block(None, ip.parse().unwrap(), Port::try_from(80).unwrap())
    };
    assert!(lists("127.0.0.1"));
    assert!(!lists("169.254.169.254"));
    assert!(!lists("fd00:ec2::254"));
    assert!(!lists("64:ff9b::169.254.169.254"));
    assert!(!lists("2002:a9fe:a9fe::1"));
    assert!(!lists("10.0.10.103"));
}

#[test]
fn a_reserved_cid_is_admitted_where_a_rule_names_it() {
    let allowlist = Allowlist::new(vec![
        rule("a", &["a"], &[1], None, None),
        rule("b", &["b"], &[1], Some(&[16, 1]), None),
    ]);
    assert!(allowlist.admits_reserved(Cid::LOCAL));
    assert!(!allowlist.admits_reserved(Cid::HOST));
    assert!(!Allowlist::default().admits_reserved(Cid::LOCAL));
}

#[test]
fn a_permit_is_given_back_when_it_is_dropped() {
    let rule = rule("a", &["a"], &[1], None, Some(2));
    let first = rule.try_acquire().unwrap();
    let _second = rule.try_acquire().unwrap();
    assert!(rule.try_acquire().is_err());
    assert_eq!(rule.open(), 2);
    drop(first);
    assert_eq!(rule.open(), 1);
    assert!(rule.try_acquire().is_ok());
}

#[test]
fn a_reload_counts_the_connections_that_are_open() {
    let limited = |name, max| Allowlist::new(vec![rule(name, &["a"], &[1], None, max)]);
    let old = limited("a", Some(3));
    let mut permits: Vec<_> = (0..3).map(|_| old.rules()[0].try_acquire().unwrap()).collect();

    let mut lower = limited("a", Some(2));
    lower.inherit(&old);
    assert_eq!(lower.rules()[0].open(), 3);
    permits.pop();
    assert!(lower.rules()[0].try_acquire().is_err(), "2 of 2 are open");
    permits.pop();
    permits.push(lower.rules()[0].try_acquire().unwrap());

    let mut higher = limited("a", Some(4));
    higher.inherit(&lower);
    permits.push(higher.rules()[0].try_acquire().unwrap());
    // A client that was accepted just before the reload asks the old rule.
    assert!(old.rules()[0].try_acquire().is_err(), "3 of 3 are open");
    permits.push(higher.rules()[0].try_acquire().unwrap());
    assert!(higher.rules()[0].try_acquire().is_err(), "4 of 4 are open");

    let mut other = limited("b", Some(1));
    other.inherit(&higher);
    assert_eq!(other.rules()[0].open(), 0);
    permits.clear();
    assert_eq!(higher.rules()[0].open(), 0);
}

#[test]
fn many_threads_never_get_more_permits_than_there_are() {
    let rule = rule("a", &["a"], &[1], None, Some(5));
    let permits: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).flat_map(|_| rule.try_acquire()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(permits.len(), 5);
}

/// A rule as text, from which the naive matcher works.
#[derive(Clone, Debug)]
struct Written {
    hosts: Vec<&'static str>,
    ports: Vec<i64>,
    cids: Option<Vec<u32>>,
}

const HOSTS: &[&str] = &[
    "10.0.0.1",
    "10.0.1.0/24",
    "10.0.0.0/16",
    "0.0.0.0/0",
    "fd00::1",
    "fd00::/16",
    "::/0",
    "a.b",
    "*.b",
    "*.a.b",
    "ab",
];

const TARGETS: &[&str] = &[
    "10.0.0.1",
    "10.0.1.255",
    "10.1.0.0",
    "11.0.0.0",
    "fd00::1",
    "fd00:0:1::",
    "fd01::",
    "a.b",
    "b",
    "x.a.b",
    "xa.b",
    "y.x.a.b",
    "ab",
];

/// Whether the pattern matches the target, bit by bit and label by label.
fn naive_match(pattern: &str, target: &str) -> bool {
    if let Some((network, prefix)) = pattern.split_once('/') {
        let (network, prefix) = (bits(network).unwrap(), prefix.parse().unwrap());
        return bits(target).is_some_and(|bits| {
            bits.len() == network.len() && bits[..prefix] == network[..prefix]
        });
    }
    if let Some(suffix) = pattern.strip_prefix("*.") {
        let labels: Vec<_> = target.split('.').rev().collect();
        let suffix: Vec<_> = suffix.split('.').rev().collect();
        return bits(target).is_none()
            && labels.len() > suffix.len()
            && labels.starts_with(&suffix);
    }
    pattern == target
}

fn bits(text: &str) -> Option<Vec<bool>> {
    let bytes = match text.parse().ok()? {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    Some(bits.collect())
}

fn written() -> impl Strategy<Value = Written> {
    (
        subsequence(HOSTS, 1..=3),
        subsequence(&[1, 2, 3][..], 1..=3),
        proptest::option::of(subsequence(&[16, 17][..], 1..=2)),
    )
        .prop_map(|(hosts, ports, cids)| Written { hosts, ports, cids })
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_a_naive_one(
        rules in proptest::collection::vec(written(), 0..5),
        target in select(TARGETS),
        port in 1i64..=4,
        peer in proptest::option::of(16u32..=18),
    ) {
        let allowlist = Allowlist::new(
            rules
                .iter()
                .enumerate()
                .map(|(index, written)| {
                    rule(&index.to_string(), &written.hosts, &written.ports, written.cids.as_deref(), None)
                })
                .collect(),
        );
        let host_matches = |written: &&Written| {
            written.hosts.iter().any(|pattern| naive_match(pattern, target))
        };
        let peer_matches = |written: &Written| {
            written.cids.as_ref().is_none_or(|cids| peer.is_some_and(|peer| cids.contains(&peer)))
        };
        let expected = rules.iter().position(|written| {
            host_matches(&written) && written.ports.contains(&port) && peer_matches(written)
        });
        let wanted = Destination {
            host: target.parse().unwrap(),
            port: Port::try_from(port).unwrap(),
        };
        match allowlist.find(peer.map(Cid::new), &wanted) {
            Ok(rule) => prop_assert_eq!(Some(rule.name.to_string()), expected.map(|at| at.to_string())),
            Err(refusal) => {
                prop_assert_eq!(expected, None);
                let with_host: Vec<_> = rules.iter().filter(host_matches).collect();
                let with_port = with_host.iter().any(|written| written.ports.contains(&port));
                let reason_holds = match refusal {
                    Refusal::Draining { .. } => false,
                    Refusal::Host(_) => with_host.is_empty(),
                    Refusal::Port { .. } => !with_host.is_empty() && !with_port,
                    Refusal::Peer { .. } => with_port,
                };
                prop_assert!(reason_holds);
            }
        }
    }

    #[test]
    fn a_pattern_that_covers_another_matches_whatever_it_matches(
        one in select(HOSTS),
        other in select(HOSTS),
        target in select(TARGETS),
    ) {
        let host = target.parse().unwrap();
        if pattern(one).covers(&pattern(other)) && pattern(other).matches(&host) {
            prop_assert!(pattern(one).matches(&host));
        }
    }

    #[test]
    fn printing_a_pattern_and_parsing_it_again_changes_nothing(
        text in "(\\*\\.)?[a-z0-9.*/-]{1,20}|[0-9a-f:./]{1,30}",
    ) {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<HostPattern>().unwrap(), pattern);
        }
    }
}
