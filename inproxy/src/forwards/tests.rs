use super::*;

fn forwards() -> Forwards {
    let config: Config = r#"
        [[forward]]
        name = "hsm"
        addresses = ["10.0.10.0/23", "fd00:10::/64"]
        ports = [2223, 2224]
        [[forward]]
        name = "one-hsm"
        addresses = ["10.0.10.103"]
        ports = [2223, 2225]
        [[forward]]
        name = "a"
        host = "a.example"
        ports = [443, 444]
        [[forward]]
        name = "b"
        host = "b.example"
        ports = [443]
        [[forward]]
        name = "b-admin"
        host = "b.example"
        ports = [9443]
        [[forward]]
        name = "old-host"
        addresses = ["10.0.20.5"]
        ports = [2223]
        via = "vsock:3:2223"
        [[forward]]
        name = "old-name"
        host = "old.example"
        ports = [443]
        via = "vsock:3:443"
    "#
    .parse()
    .unwrap_or_else(|report| panic!("{report}"));
    let loopback = ["a.example", "b.example", "old.example"]
        .into_iter()
        .zip(1..)
        .map(|(name, last)| (name.parse().unwrap(), Ipv4Addr::new(127, 1, 0, last)))
        .collect();
    Forwards::new(&config, &loopback)
}

#[test]
fn a_connection_leads_where_its_local_address_says() {
    let forwards = forwards();
    for (local, expected) in [
        ("10.0.10.103:2223", Some("hsm: 10.0.10.103:2223")),
        ("10.0.11.255:2224", Some("hsm: 10.0.11.255:2224")),
        ("[::ffff:10.0.11.27]:2223", Some("hsm: 10.0.11.27:2223")),
        ("[fd00:10::7]:2223", Some("hsm: [fd00:10::7]:2223")),
        // Only the later of two overlapping forwards has this port.
        ("10.0.10.103:2225", Some("one-hsm: 10.0.10.103:2225")),
        ("127.1.0.1:443", Some("a: a.example:443")),
        ("[::ffff:127.1.0.1]:444", Some("a: a.example:444")),
        ("127.1.0.2:443", Some("b: b.example:443")),
        ("127.1.0.2:9443", Some("b-admin: b.example:9443")),
        ("10.0.20.5:2223", Some("old-host: 10.0.20.5:2223 via vsock:3:2223")),
        ("127.1.0.3:443", Some("old-name: old.example:443 via vsock:3:443")),
        ("10.0.12.0:2223", None),
        ("10.0.10.103:443", None),
        ("[fd00:11::7]:2223", None),
        ("127.0.0.1:443", None),
        ("127.1.0.2:444", None),
        ("10.0.20.5:2224", None),
        ("10.0.10.103:0", None),
    ] {
        let found = forwards.find(local.parse().unwrap()).map(|(name, target)| match target {
            Target::Raw { via, destination } => format!("{name}: {destination} via {via}"),
            Target::Routed(destination) => format!("{name}: {destination}"),
        });
        assert_eq!(found.as_deref(), expected, "{local}");
    }
}

#[test]
fn every_port_is_listened_on_once_for_each_family_that_has_it() {
    let wildcards: Vec<_> = forwards().wildcards().iter().map(ToString::to_string).collect();
    let expected = [
        "0.0.0.0:443",
        "0.0.0.0:444",
        "0.0.0.0:2223",
        "0.0.0.0:2224",
        "0.0.0.0:2225",
        "0.0.0.0:9443",
        "[::]:2223",
        "[::]:2224",
    ];
    assert_eq!(wildcards, expected);
}
