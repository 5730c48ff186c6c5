use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::Config;

/// Imports files of these names and texts.
fn attempt(files: &[(&str, &str)]) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let write = |(name, text): &(&str, &str)| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<_> = files.iter().map(write).collect();
    let without = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
    import(&paths).map_err(|error| without(error.to_string()))
}

/// As [`attempt`], and checks that what is made is a configuration.
fn made(files: &[(&str, &str)]) -> String {
    let text = attempt(files).unwrap_or_else(|error| panic!("{error}"));
    let config: Config = text.parse().unwrap_or_else(|report| panic!("{report}\n{text}"));
    assert!(!config.listeners.is_empty());
    text
}

fn refused(files: &[(&str, &str)]) -> String {
    attempt(files).map_or_else(|error| error, |text| panic!("{text}"))
}

const YAML: &str = "\
allowlist:
- {address: kms.us-east-1.amazonaws.com, port: 443}
- {address: kms.us-east-2.amazonaws.com, port: 443}
# The cluster.
- {address: 10.0.10.103, port: 2223} # zone a
- address: \"10.0.11.27\" # zone b
  # is empty
  port: 2223 # today
- {port: 2224, address: 10.0.10.103}
";

#[test]
fn an_allowlist_becomes_rules_by_service_and_port() {
    let text = made(&[("vsock-proxy.yaml", YAML)]);
    let rules = &text[text.find("\n[[allow]]").unwrap()..];
    assert_eq!(
        rules,
        "
[[allow]]
name = \"kms\"
hosts = [
    \"kms.us-east-1.amazonaws.com\",
    \"kms.us-east-2.amazonaws.com\",
]
ports = [443]

[[allow]]
name = \"hsm\"
hosts = [
    # The cluster.
    # zone a
    \"10.0.10.103\",
]
ports = [2223, 2224]

[[allow]]
name = \"hsm-2\"
hosts = [
    # zone b
    # today
    \"10.0.11.27\",
]
ports = [2223]
"
    );
    assert!(text.starts_with("# Made of vsock-proxy.yaml by `outproxy import`.\n"), "{text}");
    assert!(text.contains("\n[[listen]]\non = \"vsock:any:8443\"\n"), "{text}");
}

#[test]
fn old_and_odd_allowlists_are_understood() {
    for yaml in [
        "whitelist:\n  - {address: a.example, port: 1}\n",
        "{allowlist: [{address: A.example., port: 1}, {address: a.example, port: 1}]}",
        "\u{feff}# head\r\nallowlist:\r\n- address: 'a.example'\r\n  port: \"1\"\r\n",
        "---\nallowlist:\n-\n  port: 1\n  address: !!str a.example\n---\nallowlist: []\n",
    ] {
        let text = made(&[("a.yaml", yaml)]);
        let end = "name = \"a\"\nhosts = [\"a.example\"]\nports = [1]\n";
        assert!(text.ends_with(end), "{yaml}\n{text}");
    }
    let text = made(&[("a.yaml", "allowlist: []\nversion: {a: [1, 2]}\n")]);
    assert!(text.contains("nothing can be reached"), "{text}");
    assert!(text.contains("# a.yaml line 2: `version` means nothing to vsock-proxy"), "{text}");
    let text = made(&[(
        "a.yaml",
        "allowlist:\n- {address: '::FFFF:10.0.0.1', port: 1}\n- {address: 'FD00::0:1', port: 1}\n",
    )]);
    assert!(text.contains("\"10.0.0.1\",\n    \"fd00::1\",\n"), "{text}");
}

#[test]
fn names_of_this_machine_stay_reachable() {
    let text = made(&[("a.yaml", "allowlist:\n- {address: localhost, port: 2049}\n")]);
    let end = "name = \"localhost\"\nhosts = [\n    \"localhost\",\n    \"127.0.0.1\",\n    \"::1\",\n]\n";
    assert!(text.contains(end), "{text}");
}

#[test]
fn all_mistakes_of_all_files_are_reported_at_once_with_their_lines() {
    let yaml = "\
allowlist:
- {address: 10.0.10.103, port: 65979}
- {address: 010.0.10.103, port: 2223}
- {address: fe80::1%eth0, port: 443}
- {address: '*.amazonaws.com', port: 443}
- {address: 10.0.0.0/8, port: 443}
- {address: a.example}
- a.example:443
- {address: [a], port: {b: c}}
- {address: b.example, port: 443}
";
    let script = "vsock-proxy 8000 kms.x.example 443\nvsock-proxy 8000 b.example 443 443\n";
    let report = refused(&[("a.yaml", yaml), ("run.sh", script)]);
    for expected in [
        "failed to parse `a.yaml`: 9 mistakes\n",
        "line 2, column 32\n",
        "`65979` is out of range; write a number from 1 to 65535 (vsock-proxy takes it for 443)",
        "line 3, column 13\n",
        "write four decimal numbers as in `10.0.10.103`",
        "`fe80::1%eth0` is not an IPv6 address",
        "`*.amazonaws.com` is not a host name",
        "`10.0.0.0/8` is not a host name",
        "line 7, column 3\n",
        "this entry has no `port`; write one",
        "this is no entry; write it as in `- {address: kms.us-east-1.amazonaws.com, port: 443}`",
        "this is neither an address nor a port",
        "\n\nfailed to parse `run.sh`: 2 mistakes\nline 1, column 1\n",
        "`kms.x.example:443` is not in the allowlist, so vsock-proxy refuses it; add it there, or",
        "a vsock-proxy has three arguments; write `vsock-proxy 8000 10.0.10.103 2223`",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
}

#[test]
fn what_is_no_allowlist_is_refused() {
    for (yaml, expected) in [
        ("", "this is no allowlist of vsock-proxy"),
        ("- a\n", "this is no allowlist of vsock-proxy"),
        ("services: []\n", "there is no `allowlist:`; write one"),
        ("allowlist:\n", "this is no list"),
        ("allowlist: [\n", "this is not YAML"),
        ("allowlist: []\nwhitelist: []\n", "there is a second allowlist"),
        ("allowlist:\n- &a {address: a, port: 1}\n- *a\n", "line 3, column 3"),
        ("a: &a b.example\nallowlist:\n- {address: *a, port: 1}\n", "write that itself"),
        ("allowlist:\n- {address: 127.1, port: 0x1bb}\n", "port `0x1bb` is out of range"),
    ] {
        let report = refused(&[("a.yaml", yaml)]);
        assert!(report.contains(expected), "{yaml}\n{report}");
    }
    assert!(refused(&[("a.sh", "echo a\n")]).contains("there is nothing to import"));
    let missing = import(&["/nonexistent/a.yaml".into()]).unwrap_err().to_string();
    assert_eq!(
        missing,
        "failed to read `/nonexistent/a.yaml`: No such file or directory (os error 2)"
    );
}

#[test]
fn units_and_scripts_become_raw_listeners() {
    let unit = "\
[Unit]
Description=vsock-proxy
[Service]
Environment=\"REGION=eu-west-1\"
ExecStartPre=-/bin/echo vsock-proxy 1 2 3
ExecStart=/bin/bash -ce \"TOKEN=$(curl http://169.254.169.254/) ; \\
    exec /usr/bin/vsock-proxy 8000 kms.$${REGION}.amazonaws.com 443 \\
        --config /etc/nitro_enclaves/vsock-proxy.yaml --num_workers 10\"
Restart=always
";
    let script = "#!/bin/sh\n\
        sudo vsock-proxy -4 443 10.0.10.103 2223 >>log 2>&1 &\n\
        socat VSOCK-LISTEN:8443,fork,reuseaddr,range=16 TCP4:10.0.11.27:2223 &\n\
        socat TCP-LISTEN:80,fork VSOCK-CONNECT:16:80 &\n";
    let text = made(&[("vsock-proxy.service", unit), ("run.sh", script)]);
    for expected in [
        "# Made of vsock-proxy.service, run.sh by `outproxy import`.\n",
        "# vsock-proxy.service line 6: `--num_workers 10`: what comes beyond it waits there",
        "# run.sh line 2: `-4`: outproxy tries",
        "# run.sh line 3: `range=16` has no counterpart.",
        "# run.sh line 4: this socat leads into an enclave",
        "# vsock-proxy.service line 6\n[[listen]]\non = \"vsock:any:8000\"\nto = \"kms.eu-west-1.amazonaws.com:443\"\n",
        "# run.sh line 2\n# A port below 1024 needs CAP_NET_BIND_SERVICE; see outproxy.service.\n[[listen]]\non = \"vsock:any:443\"\nto = \"10.0.10.103:2223\"\n",
        "on = \"vsock:any:8443\"\nto = \"10.0.11.27:2223\"\n",
        "#[[listen]]\n#on = \"vsock:any:8444\"\n",
        "name = \"kms\"\nhosts = [\"kms.eu-west-1.amazonaws.com\"]\n",
        "name = \"hsm\"\nhosts = [\n    \"10.0.10.103\",\n    \"10.0.11.27\",\n]\nports = [2223]\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn what_only_the_script_knows_and_ports_that_clash_are_mistakes() {
    let script = "vsock-proxy 8000 kms.$OUTPROXY_TEST_NOWHERE.amazonaws.com 443 &\n\
        vsock-proxy 8001 a.example 443 &\nvsock-proxy --num_workers=2 8001 b.example 443 &\n\
        vsock-proxy 0 a.example 65979 &\nvsock-proxy --help\n";
    let report = refused(&[("run.sh", script)]);
    for expected in [
        "4 mistakes\n",
        "`$OUTPROXY_TEST_NOWHERE` is not known here; write `",
        "port 8001 is taken by run.sh line 2; write another one",
        "vsock port `0` is out of range",
        "port `65979` is out of range",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
}

#[test]
fn hostile_files_are_refused_in_little_time_and_memory() {
    let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        let below = level - 1;
        text + &format!(
            "a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}, *a{below}]\n"
        )
    });
    let text = made(&[("a.yaml", &format!("{bomb}allowlist: []\n"))]);
    assert!(text.len() < 10_000);
    for nested in ["[", "{a: ", "- ", "? "] {
        let text = format!("x: {}", nested.repeat(500_000 / nested.len()));
        let report = refused(&[("a.yaml", &text)]);
        assert!(report.len() < 2_000, "{report}");
    }
    let many = format!("allowlist:\n{}", "- {address: a.example, port: 1}\n".repeat(30_000));
    assert!(made(&[("a.yaml", &many)]).len() < 1_000);
    let many = format!("allowlist: [{}]", "{port: 1},".repeat(100_000));
    assert!(refused(&[("a.yaml", &many)]).ends_with("and 99980 more"));
    let text = "allowlist:\n- {address: a.example, port: 1} # \u{1b}[2J\u{202e}\n";
    let text = made(&[("a.yaml", text)]);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

proptest! {
    #[test]
    fn what_is_made_is_always_a_configuration(
        entries in prop::collection::vec(
            ("[a-z_-]{1,4}(\\.[a-z]{1,3}){0,2}|10\\.0\\.0\\.[0-9]{1,3}|localhost|::[0-9a-f]|vpce-1\\.kms\\.vpce", 0_u32..70_000, "( #.{0,9})?"),
            0..12,
        ),
        ports in prop::collection::vec(8441_u32..8446, 0..3),
    ) {
        let lines = entries.iter().map(|(address, port, remark)| {
            format!("- {{address: '{address}', port: {port}}}{remark}\n")
        });
        let yaml = format!("allowlist:{}\n{}", if entries.is_empty() { " []" } else { "" }, lines.collect::<String>());
        let first = entries.first().map(|(address, port, _)| format!("{address} {port}")).unwrap_or_default();
        let script: String = ports.iter().map(|port| format!("vsock-proxy {port} {first}\n")).collect();
        if let Ok(text) = attempt(&[("a.yaml", &yaml), ("b.sh", &script)]) {
            let config = text.parse::<Config>();
            prop_assert!(config.is_ok(), "{}\n{}", config.unwrap_err(), text);
        }
    }
}
