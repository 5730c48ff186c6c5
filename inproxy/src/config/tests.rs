use tunnel::config::Excerpt;
use tunnel::log::{LogFormat, LogLevel};

use super::*;

mod telemetry;

/// A file with every key there is.
const DOCUMENTED: &str = r#"
outproxy = "vsock:3:8444"
await-answer = true

[[forward]]
name      = "hsm"
addresses = ["10.0.10.0/23"]
ports     = [2225, 2224, 2223, 2223]

[[forward]]
name  = "secretsmanager"
host  = "secretsmanager.ap-southeast-1.amazonaws.com"
ports = [443]

[[forward]]
name      = "old-host"
addresses = ["10.0.20.5"]
ports     = [2223]
via       = "vsock:3:2223"

[limits]
max-connections    = 1
connect-timeout    = "2s"
header-timeout     = "3s"
idle-timeout       = "4s"
half-close-timeout = "5s"
shutdown-grace     = "6s"
outproxy-retry     = "7s"

[telemetry]
enabled            = true
application-output = true

[log]
format = "json"
level  = "debug"
"#;

/// The shortest file there is, without the line that names the forward.
const REST: &str = "addresses = ['10.0.10.0/23']\nports = [2223]\n";

fn config(text: &str) -> Config {
    text.parse::<Config>().unwrap_or_else(|report| panic!("{report}"))
}

/// The line and the message of each mistake.
fn mistakes(text: &str) -> Vec<(Option<usize>, String)> {
    text.parse::<Config>()
        .unwrap_err()
        .iter()
        .map(|mistake| (mistake.line(), mistake.message().into()))
        .collect()
}

/// The messages, if there are mistakes, of a file with forwards of these lines.
fn mistakes_of_forwards(forwards: &[&str]) -> Option<String> {
    let text: String = forwards
        .iter()
        .enumerate()
        .map(|(index, forward)| format!("[[forward]]\nname = 'f{index}'\n{forward}\n"))
        .collect();
    let report = text.parse::<Config>().err()?;
    Some(report.iter().map(Excerpt::message).collect())
}

#[track_caller]
fn assert_mistake(forwards: &[&str], expected: &str) {
    let found = mistakes_of_forwards(forwards);
    assert!(
        found.as_ref().is_some_and(|found| found.contains(expected)),
        "{forwards:?}: {found:?}"
    );
}

#[test]
fn the_documented_file_is_understood() {
    let config = config(DOCUMENTED);
    let port = |number| Port::try_from(number).unwrap();
    assert_eq!(config.outproxy.to_string(), "vsock:3:8444");
    assert!(config.await_answer);
    assert_eq!(
        config.forwards,
        [
            Forward {
                name: "hsm".parse().unwrap(),
                local: Local::Addresses(vec!["10.0.10.0/23".parse().unwrap()]),
                ports: vec![port(2223), port(2224), port(2225)],
                via: None,
            },
            Forward {
                name: "secretsmanager".parse().unwrap(),
                local: Local::Host("secretsmanager.ap-southeast-1.amazonaws.com".parse().unwrap()),
                ports: vec![port(443)],
                via: None,
            },
            Forward {
                name: "old-host".parse().unwrap(),
                local: Local::Addresses(vec!["10.0.20.5".parse().unwrap()]),
                ports: vec![port(2223)],
                via: Some("vsock:3:2223".parse().unwrap()),
            },
        ]
    );
    assert_eq!(config.limits.max_connections.get(), 1);
    assert_eq!(config.limits.connect_timeout, Duration::from_secs(2));
    assert_eq!(config.limits.header_timeout, Duration::from_secs(3));
    assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(4)));
    assert_eq!(config.limits.half_close_timeout, Duration::from_secs(5));
    assert_eq!(config.limits.shutdown_grace, Duration::from_secs(6));
    assert_eq!(config.outproxy_retry, Duration::from_secs(7));
    assert_eq!(config.telemetry, Some(Telemetry { application_output: true }));
    assert_eq!(config.log, LogConfig { format: LogFormat::Json, level: LogLevel::Debug });
    let networks: Vec<_> = config.networks().map(|net| net.to_string()).collect();
    assert_eq!(networks, ["10.0.10.0/23", "10.0.20.5/32"]);
    let hosts: Vec<_> = config.hosts().map(DnsName::as_str).collect();
    assert_eq!(hosts, ["secretsmanager.ap-southeast-1.amazonaws.com"]);
}

#[test]
fn everything_but_a_forward_has_a_default() {
    let config = config(&format!("[[forward]]\nname = 'a'\n{REST}[limits]\n"));
    assert_eq!(config.outproxy.to_string(), "vsock:3:8443");
    assert!(!config.await_answer);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.outproxy_retry, Duration::from_secs(2));
    assert_eq!(config.telemetry, Some(Telemetry { application_output: false }));
    assert_eq!(config.log, LogConfig::default());
}

#[test]
fn all_cross_field_mistakes_are_reported_at_once() {
    let report = r#"outproxy = "vsock:any:8443"
[[forward]]
name = "hsm"
addresses = [
  "10.0.10.0/23",
  "10.0.12.5/24",
]
ports = [2223]
[[forward]]
name = "hsm"
addresses = ["10.0.11.27"]
ports = [2223]
via = "vsock:3:2223"
[[forward]]
name = "neither"
ports = [0]
"#
    .parse::<Config>()
    .unwrap_err();
    assert_eq!(
        report.to_string(),
        r#"6 mistakes
line 1, column 12
  |
1 | outproxy = "vsock:any:8443"
  |            ^^^^^^^^^^^^^^^^
`any` is only for listening; write the CID of the parent, as in `vsock:3:8443`

line 6, column 3
  |
6 |   "10.0.12.5/24",
  |   ^^^^^^^^^^^^^^
`10.0.12.5/24` is not the start of its block; write `10.0.12.0/24`, or the address without `/`

line 10, column 8
   |
10 | name = "hsm"
   |        ^^^^^
more than one forward is named `hsm`; write another name; the other is on line 3

line 11, column 14
   |
11 | addresses = ["10.0.11.27"]
   |              ^^^^^^^^^^^^
`10.0.11.27` of forward `hsm` overlaps `10.0.10.0/23` of forward `hsm` on port 2223, and one of them has `via`; write addresses that lie apart; the other is on line 5

line 15, column 8
   |
15 | name = "neither"
   |        ^^^^^^^^^
forward `neither` has neither `addresses` nor a `host`; write one of them

line 16, column 10
   |
16 | ports = [0]
   |          ^
port `0` is out of range; write a number from 1 to 65535"#
    );
}

#[test]
fn a_file_without_forwards_is_refused() {
    assert_eq!(
        mistakes(""),
        [(None, "there is no `[[forward]]`; write one, so that something is reached".into())]
    );
}

#[test]
fn forwards_that_leave_open_where_a_connection_leads_are_refused() {
    let routed = "addresses = ['10.0.10.0/23']\nports = [2223, 2224]";
    let raw = |address: &str, port: u16, via: &str| {
        format!("addresses = ['{address}']\nports = [{port}]\nvia = '{via}'")
    };
    let overlap = "overlaps `10.0.10.0/23` of forward `f0` on port 2224";
    assert_mistake(&[routed, &raw("10.0.11.27", 2224, "vsock:3:1")], overlap);
    let one = raw("10.0.10.9", 1, "vsock:3:1");
    assert_mistake(&[&one, &raw("10.0.10.9", 1, "vsock:3:2")], "overlaps `10.0.10.9`");
    assert_mistake(&[&one, &raw("10.0.10.9", 1, "vsock:3:1")], "overlaps `10.0.10.9`");
    assert_mistake(&[&one, &raw("::ffff:10.0.10.9", 1, "vsock:3:2")], "overlaps `10.0.10.9`");
    let host = "host = 'a.example'\nports = [443]";
    assert_mistake(
        &[host, "host = 'A.example.'\nports = [1, 443]"],
        "`a.example` is forwarded twice on port 443",
    );

    for apart in [
        [routed, &raw("10.0.11.27", 2225, "vsock:3:1")],
        [routed, &raw("10.0.12.27", 2224, "vsock:3:1")],
        // The destination is the same, whichever forward it is.
        [routed, "addresses = ['10.0.11.27']\nports = [2223]"],
        [host, "host = 'a.example'\nports = [444]"],
        [host, "host = 'b.example'\nports = [443]"],
        [&one, &raw("10.0.10.10", 1, "vsock:3:1")],
    ] {
        assert_eq!(mistakes_of_forwards(&apart), None, "{apart:?}");
    }
}

#[test]
fn a_raw_forward_leads_to_one_destination() {
    let expected = "leads to one address and one port";
    for forward in [
        "addresses = ['10.0.20.5']\nports = [1, 2]",
        "addresses = ['10.0.20.5', '10.0.20.6']\nports = [1]",
        "addresses = ['10.0.20.0/24']\nports = [1]",
        "host = 'a.example'\nports = [1, 2]",
    ] {
        assert_eq!(mistakes_of_forwards(&[forward]), None);
        assert_mistake(&[&format!("{forward}\nvia = 'vsock:3:1'")], expected);
    }
    assert_eq!(mistakes_of_forwards(&["host = 'a.example'\nports = [1]\nvia = 'vsock:3:1'"]), None);
}

#[test]
fn a_forward_has_addresses_or_a_host() {
    assert_mistake(&["ports = [1]"], "neither `addresses` nor a `host`");
    assert_mistake(
        &["host = 'a'\naddresses = ['10.0.0.1']\nports = [1]"],
        "either `addresses` or a `host`",
    );
    assert_mistake(&["host = '10.0.0.1'\nports = [1]"], "write `addresses = [\"10.0.0.1\"]`");
    assert_mistake(&["host = 'localhost'\nports = [1]"], "is the enclave itself");
    assert_mistake(&["host = 'a.localhost'\nports = [1]"], "is the enclave itself");
    assert_mistake(&["host = '127.1'\nports = [1]"], "is not an IPv4 address");
    assert_mistake(&["addresses = ['a.example']\nports = [1]"], "is not an address");
    assert_mistake(&["addresses = []\nports = [1]"], "is empty");
    assert_mistake(&["host = 'a'\nports = []"], "is empty");
}

#[test]
fn addresses_that_are_no_remote_service_are_refused() {
    for address in [
        "0.0.0.0/0",
        "0.0.0.0",
        "0.0.0.0/1",
        "126.0.0.0/7",
        "127.0.0.0/8",
        "127.1.0.1",
        "127.0.0.0/15",
        "224.0.0.1",
        "192.0.0.0/2",
        "255.255.255.255",
        "::",
        "::/0",
        "::/64",
        "ff02::1",
        "f000::/4",
        "::ffff:0.0.0.0/96",
    ] {
        assert_mistake(&[&format!("addresses = ['{address}']\nports = [1]")], "reaches into");
    }
    for address in [
        "10.0.0.0/8",
        "127.0.0.1",
        "127.0.0.0/24",
        "169.254.169.254",
        "fd00::/8",
        "::1",
        "::ffff:10.0.0.0/104",
        "240.0.0.1",
    ] {
        let forward = format!("addresses = ['{address}']\nports = [1]");
        assert_eq!(mistakes_of_forwards(&[&forward]), None, "{address}");
    }
}

#[test]
fn endpoints_that_the_enclave_cannot_connect_to_are_refused() {
    let file = |outproxy: &str, via: &str| {
        format!(
            "outproxy = '{outproxy}'\n[[forward]]\nname = 'a'\naddresses = ['10.0.20.5']\n\
             ports = [2223]\nvia = '{via}'"
        )
    };
    for bad in ["vsock:any:8443", "tcp:outproxy.example:8443", "tcp:10.0.20.5:2223"] {
        let found = mistakes(&file(bad, "vsock:3:1"));
        assert!(found.len() == 1 && found[0].0 == Some(1), "{bad}: {found:?}");
        let found = mistakes(&file("vsock:3:1", bad));
        assert!(found.len() == 1 && found[0].0 == Some(6), "{bad}: {found:?}");
    }
    for good in ["vsock:3:8443", "tcp:10.0.20.5:2224", "tcp:[::1]:8443", "unix:/run/outproxy"] {
        config(&file(good, "vsock:3:1"));
        config(&file("vsock:3:1", good));
    }
}

#[test]
fn a_raw_forward_to_the_routed_endpoint_is_refused() {
    let raw = "addresses = ['10.0.20.5']\nports = [2223]\nvia = 'vsock:3:8443'";
    assert_mistake(&[raw], "expects a request that `via` does not send");
    config(&format!("outproxy = 'vsock:3:1'\n[[forward]]\nname = 'a'\n{raw}"));
}

#[test]
fn unknown_keys_and_values_out_of_range_are_refused_everywhere() {
    for (text, line, expected) in [
        ("outporxy = 'vsock:3:1'", 1, "write `outproxy`"),
        ("await-answer = 'yes'", 1, "expected a boolean"),
        ("[[forward]]\naddress = []", 2, "write `addresses`"),
        ("[[forward]]\nname = ''", 2, "is not a name"),
        ("[[forward]]\nvia = 'vsock:3'", 2, "has no port"),
        ("forward = ['a']", 1, "expected a table `[[forward]]`"),
        ("[limits]\noutproxy-retries = '1s'", 2, "write `outproxy-retry`"),
        ("[limits]\noutproxy-retry = 2", 2, "a duration such as \"5s\""),
        ("[limits]\nconnect-timeout = '0s'", 2, "a time from `1ms` to `1year`"),
        ("[limits]\nmax-connections = 0", 2, "a number from 1 to 1000000"),
    ] {
        let found = mistakes(text);
        let [(Some(at), message)] = &found[..] else { panic!("{text}: {found:?}") };
        assert!(*at == line && message.contains(expected), "{text}: {found:?}");
    }
}
