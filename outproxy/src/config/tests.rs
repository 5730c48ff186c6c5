use std::time::Duration;

use tunnel::config::Excerpt;
use tunnel::destination::Port;
use tunnel::limits::MaxConnections;
use tunnel::log::{LogFormat, LogLevel};

use super::*;

mod following;

/// A file with every key there is.
const DOCUMENTED: &str = r#"
[[listen]]
on = "vsock:any:8443"

[[listen]]
on = "vsock:any:2223"
to = "10.0.10.103:2223"

[[allow]]
name  = "hsm"
hosts = ["10.0.10.103", "10.0.11.27", "10.0.12.0/24"]
ports = [2223, 2224, 2225]
cids  = [16]
max-connections = 256
probe = false

[[allow]]
name  = "secretsmanager"
hosts = ["secretsmanager.ap-southeast-1.amazonaws.com"]
ports = [443]

[limits]
max-connections    = 4096
connect-timeout    = "5s"
header-timeout     = "5s"
idle-timeout       = "0s"
half-close-timeout = "60s"
shutdown-grace     = "30s"

[dns]
servers = ["169.254.169.253"]

[metrics]
listen = "tcp:127.0.0.1:9464"

[log]
format = "text"
level  = "info"
"#;

fn config(text: &str) -> Config {
    text.parse::<Config>().unwrap_or_else(|report| panic!("{report}"))
}

fn report(text: &str) -> String {
    text.parse::<Config>().unwrap_err().to_string()
}

/// The line and the message of each mistake.
fn mistakes(text: &str) -> Vec<(Option<usize>, String)> {
    text.parse::<Config>()
        .unwrap_err()
        .iter()
        .map(|mistake| (mistake.line(), mistake.message().into()))
        .collect()
}

/// The one mistake of a file whose mistakes are all about `[[listen]]` tables on these endpoints.
fn clash(endpoints: [&str; 2]) -> Option<String> {
    let text: String = endpoints.iter().map(|on| format!("[[listen]]\non = {on:?}\n")).collect();
    let report = text.parse::<Config>().err()?;
    Some(report.iter().map(Excerpt::message).collect())
}

#[test]
fn the_documented_file_is_understood() {
    let config = config(DOCUMENTED);
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.on.to_string(), listener.to.as_ref().map(ToString::to_string)))
        .collect();
    assert_eq!(
        listeners,
        [
            ("vsock:any:8443".into(), None),
            ("vsock:any:2223".into(), Some("10.0.10.103:2223".into())),
        ]
    );
    let [hsm, secretsmanager] = config.allowlist.rules() else {
        panic!("{:?}", config.allowlist);
    };
    assert_eq!(hsm.name.as_str(), "hsm");
    assert_eq!(hsm.hosts[2].to_string(), "10.0.12.0/24");
    assert_eq!(hsm.cids.as_deref(), Some(&[Cid::new(16)][..]));
    assert_eq!(hsm.max_connections.map(MaxConnections::get), Some(256));
    assert_eq!((hsm.probe, secretsmanager.probe), (Some(false), None));
    assert_eq!(secretsmanager.ports[..], [Port::try_from(443).unwrap()]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.nameservers, Some(vec!["169.254.169.253:53".parse().unwrap()]));
    assert_eq!(
        config.metrics.map(|endpoint| endpoint.to_string()),
        Some("tcp:127.0.0.1:9464".into())
    );
    assert_eq!(config.log, LogConfig::default());
}

#[test]
fn every_table_but_listen_has_defaults() {
    let config = config("[[listen]]\non = 'unix:/run/outproxy.sock'");
    assert!(config.allowlist.rules().is_empty());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.nameservers, None);
    assert_eq!(config.metrics, None);
}

#[test]
fn what_is_written_replaces_the_defaults() {
    let config = config(
        "[[listen]]\non = 'unix:/a'\n[limits]\nidle-timeout = '10m'\n[log]\nformat = 'json'\nlevel = 'off'\n\
         [dns]\nservers = ['127.0.0.1:5353', '[fd00::53]:54', 'fd00::53']",
    );
    assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(600)));
    assert_eq!(config.log, LogConfig { format: LogFormat::Json, level: LogLevel::Off });
    let servers: Vec<_> = config.nameservers.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(servers, ["127.0.0.1:5353", "[fd00::53]:54", "[fd00::53]:53"]);
}

#[test]
fn all_cross_field_mistakes_are_reported_at_once() {
    assert_eq!(
        report(
            r#"[[listen]]
on = "vsock:any:8443"
[[listen]]
on = "vsock:3:8443"
to = "10.0.20.5:2223"
[[allow]]
name = "hsm"
hosts = ["10.0.10.103"]
ports = [2223]
[[allow]]
name = "hsm"
hosts = ["10.0.11.27"]
ports = [2223]
"#
        ),
        r#"3 mistakes
line 4, column 6
  |
4 | on = "vsock:3:8443"
  |      ^^^^^^^^^^^^^^
`vsock:3:8443` cannot be bound beside `vsock:any:8443`; write another port or path; the other is on line 2

line 5, column 6
  |
5 | to = "10.0.20.5:2223"
  |      ^^^^^^^^^^^^^^^^
no `[[allow]]` lists `10.0.20.5:2223`; write it into one, or remove the listener

line 11, column 8
   |
11 | name = "hsm"
   |        ^^^^^
more than one rule is named `hsm`; write another name; the other is on line 7"#
    );
}

#[test]
fn every_bad_element_is_reported_with_its_own_line() {
    assert_eq!(
        mistakes(
            "[[listen]]\non = 'vsock:any:1'\nto = '10.9.9.9:1'\n[[allow]]\nname = 'a'\nhosts = [\n'10.0.12.5/24',\n\
             '*foo.com',\n'0177.0.0.1',\n]\nports = [0,\n65979]\ncids = [\n-1]\n"
        ),
        [
            (Some(7), "`10.0.12.5/24` is not the start of its block; write `10.0.12.0/24`, or the address without `/`"),
            (Some(8), "`*foo.com` has a `*` that is not the whole first label; write as in `*.example.com`"),
            (Some(9), "`0177.0.0.1` is not an IPv4 address; write four decimal numbers as in `10.0.10.103`"),
            (Some(11), "port `0` is out of range; write a number from 1 to 65535"),
            (Some(12), "port `65979` is out of range; write a number from 1 to 65535"),
            (Some(14), "CID `-1` is out of range; write `any` or a number from 0 to 4294967294"),
        ]
        .map(|(line, message)| (line, message.to_owned()))
    );
}

#[test]
fn empty_arrays_are_refused() {
    let lines: Vec<_> = mistakes(
        "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'a'\nhosts = []\nports = []\ncids = []\n[dns]\nservers = []",
    )
    .into_iter()
    .map(|(line, message)| {
        assert!(message.contains("is empty"), "{message}");
        line
    })
    .collect();
    assert_eq!(lines, [Some(5), Some(6), Some(7), Some(9)]);
}

#[test]
fn a_file_without_listeners_is_refused() {
    assert_eq!(
        report("[log]\nlevel = 'info'"),
        "1 mistake\nthere is no `[[listen]]`; write one, such as `on = \"vsock:any:8443\"`"
    );
}

#[test]
fn endpoints_that_cannot_be_bound_together_are_refused() {
    for endpoints in [
        ["vsock:3:1", "vsock:3:1"],
        ["vsock:3:1", "vsock:any:1"],
        ["tcp:0.0.0.0:1", "tcp:10.0.0.1:1"],
        ["tcp:[fd00::1]:1", "tcp:[::]:1"],
        ["tcp:[::]:1", "tcp:0.0.0.0:1"],
        ["tcp:10.0.0.1:1", "tcp:[::]:1"],
        ["tcp:[::ffff:10.0.0.1]:1", "tcp:10.0.0.1:1"],
        ["unix:/a", "unix:/a"],
    ] {
        let message = clash(endpoints).unwrap_or_else(|| panic!("{endpoints:?}"));
        assert!(message.ends_with("the other is on line 2"), "{message}");
    }
    for endpoints in [
        ["vsock:3:1", "vsock:4:1"],
        ["vsock:any:1", "vsock:any:2"],
        ["tcp:0.0.0.0:1", "tcp:0.0.0.0:2"],
        ["tcp:10.0.0.2:1", "tcp:10.0.0.1:1"],
        ["tcp:0.0.0.0:1", "tcp:[::1]:1"],
        ["tcp:0.0.0.0:1", "vsock:any:1"],
        ["unix:/a", "unix:/b"],
    ] {
        assert_eq!(clash(endpoints), None, "{endpoints:?}");
    }
}

#[test]
fn metrics_take_no_endpoint_of_a_listener() {
    let found = mistakes("[[listen]]\non = 'tcp:0.0.0.0:1'\n[metrics]\nlisten = 'tcp:127.0.0.1:1'");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Some(4));
}

#[test]
fn metrics_are_not_for_enclaves() {
    let found = mistakes("[[listen]]\non = 'unix:/a'\n[metrics]\nlisten = 'vsock:any:9464'");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Some(4));
    assert!(found[0].1.contains("write `tcp:127.0.0.1:9464` or"), "{}", found[0].1);
}

#[test]
fn a_listener_on_a_name_is_refused() {
    assert_eq!(
        mistakes("[[listen]]\non = 'tcp:localhost:9'"),
        [(
            Some(2),
            "`localhost` may stand for several addresses; \
             write the one to listen on, as in `tcp:127.0.0.1:9`"
                .into()
        )]
    );
}

#[test]
fn a_raw_listener_leads_to_what_some_client_of_it_may_reach() {
    let file = |on: &str, cids: &str| {
        format!(
            "[[listen]]\non = '{on}'\nto = 'hsm.example.com:2223'\n\
             [[allow]]\nname = 'a'\nhosts = ['*.example.com']\nports = [2223]\n{cids}"
        )
    };
    config(&file("vsock:any:1", "cids = [16]"));
    config(&file("unix:/a", ""));
    assert_eq!(
        mistakes(&file("unix:/a", "cids = [16]")),
        [(
            Some(3),
            "only rules with `cids` list `hsm.example.com:2223`, and no client of `unix:/a` has a CID; \
             write a rule without `cids`"
                .into()
        )]
    );
}

#[test]
fn a_rule_behind_one_that_matches_all_it_lists_is_refused() {
    let file = |earlier: &str, later: &str| {
        format!(
            "[[listen]]\non = 'vsock:any:1'\n[[allow]]\nname = 'a'\n{earlier}\n\
             [[allow]]\nname = 'b'\nmax-connections = 1\n{later}\n"
        )
    };
    assert_eq!(
        mistakes(&file(
            "hosts = ['*.example.com', '10.0.0.0/8']\nports = [1, 2]",
            "hosts = ['hsm.example.com', '*.a.example.com', '10.1.0.0/16']\nports = [2]",
        )),
        [(
            Some(8),
            "rule `b` never decides, since the earlier rule `a` matches all that it lists; \
             write it first, or remove it; the other is on line 4"
                .into()
        )]
    );
    for (earlier, later) in [
        // More hosts, more ports.
        ("hosts = ['a.b']\nports = [1]", "hosts = ['a.b', 'c.b']\nports = [1]"),
        ("hosts = ['a.b']\nports = [1]", "hosts = ['a.b']\nports = [1, 2]"),
        // The parent of a suffix is not below it.
        ("hosts = ['*.a.b']\nports = [1]", "hosts = ['a.b']\nports = [1]"),
        // Other clients, and reserved CIDs that only the later rule admits.
        (
            "hosts = ['a.b']\nports = [1]\ncids = [16]",
            "hosts = ['a.b']\nports = [1]\ncids = [16, 17]",
        ),
        ("hosts = ['a.b']\nports = [1]\ncids = [16]", "hosts = ['a.b']\nports = [1]"),
        ("hosts = ['a.b']\nports = [1]", "hosts = ['a.b']\nports = [1]\ncids = [1]"),
        // A reserved address that only the later rule lists itself.
        ("hosts = ['0.0.0.0/0']\nports = [1]", "hosts = ['169.254.169.254']\nports = [1]"),
    ] {
        config(&file(earlier, later));
    }
}

#[test]
fn addresses_are_probed_on_the_port_of_hsms_or_on_all_or_on_none() {
    let probed = |probe: &str| -> Vec<String> {
        let config = config(&format!(
            "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'a'\n\
             hosts = ['10.0.10.103', '10.0.12.0/24', 'a.b', 'fd00::10']\nports = [2224, 2223]\n{probe}"
        ));
        config.allowlist.rules()[0].probed().map(|address| address.to_string()).collect()
    };
    assert_eq!(probed(""), ["10.0.10.103:2223", "[fd00::10]:2223"]);
    let all = ["10.0.10.103:2223", "[fd00::10]:2223", "10.0.10.103:2224", "[fd00::10]:2224"];
    assert_eq!(probed("probe = true"), all);
    assert!(probed("probe = false").is_empty());
}

#[test]
fn nobody_probes_blocks_and_names() {
    let file = |hosts: &str, probe: &str| {
        format!(
            "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'a'\n\
             hosts = {hosts}\nports = [443]\nprobe = {probe}"
        )
    };
    assert_mistake(&file("['10.0.12.0/24', 'a.b']", "true"), 7, "write the addresses into");
    // What else is wrong there says enough.
    assert_eq!(mistakes(&file("['10.0.12.300']", "true")).len(), 1);
    config(&file("['10.0.12.0/24', 'a.b']", "false"));
    config(&file("['10.0.12.0/24', '10.0.13.1']", "true"));
}

#[test]
fn unknown_keys_and_wrong_types_are_refused_everywhere() {
    for (text, line, expected) in [
        ("[[listen]]\nno = 'vsock:any:1'", 2, "unknown key `no`"),
        ("[[lisen]]\non = 'vsock:any:1'", 1, "write `listen`"),
        ("[[allow]]\nport = 1", 2, "write `ports`"),
        ("[[allow]]\nname = 'a'\nhosts = ['a']\nports = 443", 4, "expected an array"),
        ("[[allow]]\nprobes = true", 2, "write `probe`"),
        ("[[allow]]\nname = 'a'\nprobe = 2223", 3, "expected a boolean"),
        ("[limits]\nmax-connection = 1", 2, "write `max-connections`"),
        ("[limits]\noutproxy-retry = '2s'", 2, "unknown key `outproxy-retry`"),
        ("[dns]\nserver = []", 2, "write `servers`"),
        ("metrics = 'tcp:127.0.0.1:1'", 1, "expected a table `[metrics]`"),
        ("[metrics]", 1, "missing key `listen`"),
        ("[log]\ncolour = true", 2, "unknown key `colour`"),
    ] {
        assert_mistake(text, line, expected);
    }
}

#[test]
fn values_out_of_range_are_refused_everywhere() {
    for (text, line, expected) in [
        ("[[listen]]\non = 'vsock:any:1'\nto = '10.0.0.1'", 3, "has no port"),
        ("[[listen]]\non = 'vsock:4294967296:1'", 2, "CID"),
        ("[[listen]]\non = 'vsock:any:0'", 2, "1 to 4294967294"),
        ("[[allow]]\nname = 'HSM'", 2, "`HSM` is not a name"),
        ("[[allow]]\nmax-connections = 0", 2, "from 1 to 1000000"),
        ("[limits]\nidle-timeout = 5", 2, "a duration such as \"5s\""),
        ("[limits]\nidle-timeout = '5'", 2, "a duration such as \"5s\""),
        ("[log]\nlevel = 'loud'", 2, "unknown variant `loud`"),
        ("[log]\nformat = 'xml'", 2, "expected `json` or `text`"),
        ("[dns]\nservers = ['dns.example']", 2, "as in `169.254.169.253`"),
        ("[dns]\nservers = ['127.0.0.1:0']", 2, "as in `169.254.169.253`"),
    ] {
        assert_mistake(text, line, expected);
    }
}

#[track_caller]
fn assert_mistake(text: &str, line: usize, expected: &str) {
    let found = mistakes(text);
    assert!(
        found.iter().any(|(at, message)| *at == Some(line) && message.contains(expected)),
        "{text}: {found:?}"
    );
}
