use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Forward};

fn attempt(script: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.sh");
    fs::write(&path, script).unwrap();
    let without = format!("{}/", directory.path().display());
    import(&[path]).map_err(|error| error.to_string().replace(&without, ""))
}

/// What is made, after it was checked that it is a configuration, and that its better form is one.
fn made(script: &str) -> (String, Config) {
    let text = attempt(script).unwrap_or_else(|error| panic!("{error}"));
    let parse =
        |text: &str| -> Config { text.parse().unwrap_or_else(|report| panic!("{report}\n{text}")) };
    let (_, better) = text.split_once("\n# Better").unwrap();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned() + "\n",
        _ => String::new(),
    };
    let better: String = better.lines().skip(1).map(uncomment).collect();
    if better.contains("[[forward]]") {
        assert!(parse(&better).forwards.iter().all(|forward| forward.via.is_none()), "{better}");
    }
    let config = parse(&text);
    (text, config)
}

fn refused(script: &str) -> String {
    attempt(script).map_or_else(|error| error, |text| panic!("{text}"))
}

/// What each forward makes local, its port, and where it leads.
fn led(config: &Config) -> Vec<String> {
    let line = |forward: &Forward| {
        let local = match &forward.local {
            crate::config::Local::Addresses(addresses) => addresses[0].to_string(),
            crate::config::Local::Host(host) => host.to_string(),
        };
        let via = forward.via.as_ref().unwrap();
        format!("{}: {local} {} {via}", forward.name, forward.ports[0])
    };
    config.forwards.iter().map(line).collect()
}

const SCRIPT: &str = r#"#!/bin/bash
set -e
HSM=10.0.10.103

ifconfig lo 127.0.0.1
ifconfig lo:0 $HSM
ifconfig lo:1 10.0.11.27 netmask 255.255.255.255 up
echo -e "\n* Names"
echo "127.0.0.1   secretsmanager.ap-southeast-1.amazonaws.com" >> /etc/hosts
socat TCP4-LISTEN:2223,bind=$HSM,reuseaddr,fork VSOCK-CONNECT:3:2223 &
socat "VSOCK-CONNECT:3:2224" 'TCP-LISTEN:2223,fork,bind=10.0.11.27' >/dev/null 2>&1 &
socat TCP4-LISTEN:443,bind=127.0.0.1,fork vsock-connect:3:8443 &
mount -t tmpfs none /data
cd /app
exec java -ea -jar "app.jar"
"#;

#[test]
fn a_script_becomes_raw_forwards_and_shows_what_is_better() {
    let (text, config) = made(SCRIPT);
    assert_eq!(
        led(&config),
        [
            "hsm: 10.0.10.103 2223 vsock:3:2223",
            "hsm-2: 10.0.11.27 2223 vsock:3:2224",
            "secretsmanager: secretsmanager.ap-southeast-1.amazonaws.com 443 vsock:3:8443",
        ]
    );
    assert_eq!(config.outproxy.to_string(), "vsock:3:8444");
    for expected in [
        "# Made of run.sh by `inproxy import`.\n",
        "#\n# run.sh line 13: not done here: `mount -t tmpfs none /data`\n",
        "remove them:\n#   run.sh line 5: `ifconfig lo 127.0.0.1`\n#   run.sh line 6: `ifconfig lo:0 $HSM`\n",
        "# run.sh line 15 runs the application: `exec java -ea -jar \"app.jar\"`\n",
        "#   WORKDIR /app\n#   ENTRYPOINT [\"/usr/bin/inproxy\", \"--\", \"java\", \"-ea\", \"-jar\", \"app.jar\"]\n",
        "\n# run.sh line 10\n[[forward]]\nname = \"hsm\"\naddresses = [\"10.0.10.103\"]\nports = [2223]\nvia = \"vsock:3:2223\"\n",
        "#\n#[[forward]]\n#name = \"hsm\"\n#addresses = [\"10.0.10.0/24\", \"10.0.11.0/24\"] # the subnets of the cluster; see to them\n#ports = [2223, 2224, 2225]\n",
        "#name = \"secretsmanager\"\n#host = \"secretsmanager.ap-southeast-1.amazonaws.com\"\n#ports = [443]\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn no_subnet_is_proposed_that_would_be_refused() {
    let (text, _) = made(
        "socat TCP6-LISTEN:2223,bind=[::10] VSOCK-CONNECT:3:2223\n\
         socat TCP4-LISTEN:2223,bind=255.255.255.9 VSOCK-CONNECT:3:2224\n",
    );
    assert!(text.contains("#addresses = [\"255.255.255.9\", \"::10\"] # the subnets"), "{text}");
}

#[test]
fn a_socat_on_every_address_is_for_what_its_port_says() {
    let (text, config) = made(
        "ip -4 addr add 10.0.10.103/24 dev lo\nip link set dev lo up\n\
         sh -c 'echo 127.0.0.1 a.example b.example localhost >> /etc/hosts'\n\
         socat TCP4-LISTEN:2223,reuseaddr,fork VSOCK-CONNECT:3:2223 &\n\
         socat TCP4-LISTEN:443,reuseaddr,fork VSOCK-CONNECT:3:443 &\n",
    );
    assert_eq!(
        led(&config),
        [
            "hsm: 10.0.10.103 2223 vsock:3:2223",
            "a: a.example 443 vsock:3:443",
            "b: b.example 443 vsock:3:443",
        ]
    );
    for expected in [
        "line 4: listened on every address; is for the addresses on `lo` now.",
        "line 5: listened on every address; is for the names in /etc/hosts now.",
        "# No line runs an application.",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn addresses_and_names_are_found_however_they_are_written() {
    for (script, expected) in [
        ("socat TCP-LISTEN:80,fork VSOCK:3:80", "port-80: 127.0.0.1 80 vsock:3:80"),
        ("socat TCP-LISTEN:80,bind=localhost VSOCK:3:80", "port-80: 127.0.0.1 80 vsock:3:80"),
        (
            "ip addr add 169.254.169.254/32 dev lo label lo:0\nsocat tcp-l:80,fork vsock:3:80",
            "port-80: 169.254.169.254 80 vsock:3:80",
        ),
        (
            "ip -6 a add fd00::10/128 dev lo\nsocat TCP6-LISTEN:2225,bind=[fd00::10] VSOCK:3:1",
            "hsm: fd00::10 2225 vsock:3:1",
        ),
        (
            "cat <<EOF | sudo tee -a /etc/hosts\n127.0.0.2 a.example # one\nEOF\n\
             socat TCP-LISTEN:443,bind=127.0.0.2 VSOCK:3:2",
            "a: a.example 443 vsock:3:2",
        ),
        (
            "printf '127.0.0.1\\ta.example\\n' | tee -a /etc/hosts >/dev/null\n\
             socat TCP-LISTEN:443,bind=a.example VSOCK:3:2",
            "a: a.example 443 vsock:3:2",
        ),
    ] {
        let (_, config) = made(script);
        assert_eq!(led(&config), [expected], "{script}");
    }
}

#[test]
fn what_inproxy_does_not_do_stays() {
    let (text, config) = made(
        "echo 10.0.10.103 hsm.internal >> /etc/hosts\nifconfig lo:0 10.0.10.103 up\n\
         socat TCP-LISTEN:2223,bind=hsm.internal,su=nobody VSOCK-CONNECT:3:2223\n\
         socat VSOCK-LISTEN:5000,fork TCP:127.0.0.1:8080 &\n\
         socat -u FILE:/dev/null VSOCK-CONNECT:3:9\nip addr add 10.0.0.1/24 dev eth0\n\
         ifconfig lo:0 down\n/app/run --key=$(cat key) | tee log\n",
    );
    assert_eq!(led(&config), ["hsm: 10.0.10.103 2223 vsock:3:2223"]);
    for expected in [
        "line 1: stays: inproxy writes no line for `10.0.10.103`, which is no loopback address.",
        "line 3: `su=nobody` has no counterpart.",
        "line 4: stays: this socat leads into the enclave; inproxy leads out of it.",
        "line 5: stays: this socat is not between TCP and vsock.",
        "line 6: not done here: `ip addr add 10.0.0.1/24 dev eth0`",
        "line 7: `lo` stays up.",
        "remove them:\n#   run.sh line 2: `ifconfig lo:0 10.0.10.103 up`\n#   run.sh line 3: `socat TCP-LISTEN:2223,bind=hsm.internal,su=nobody VSOCK-CONNECT:3:2223`\n#   run.sh line 7: `ifconfig lo:0 down`\n#\n",
        "ENTRYPOINT [\"/usr/bin/inproxy\", \"--\", \"/bin/sh\", \"-c\", \"/app/run --key=$(cat key)\"]",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines() {
    let report = refused(
        "ifconfig lo:0 010.0.10.103\nip addr add 10.0.10.256/32 dev lo\n\
         echo 127.0.0.1 a..b >> /etc/hosts\necho a.example 127.0.0.1 >> /etc/hosts\n\
         socat TCP-LISTEN:65979,fork VSOCK-CONNECT:3:1\n\
         socat TCP-LISTEN:1,bind=127.9.9.9,fork VSOCK-CONNECT:3:1\n\
         socat TCP-LISTEN:1,bind=nowhere.example VSOCK-CONNECT:3:1\n\
         socat TCP-LISTEN:2,bind=$INPROXY_TEST_NOWHERE VSOCK-CONNECT:3:1\n\
         socat TCP-LISTEN:3,bind=10.0.0.1 VSOCK-CONNECT:3:1\n\
         socat TCP-LISTEN:3,bind=10.0.0.1 VSOCK-CONNECT:any:2\nifconfig lo:1 224.0.0.1\n",
    );
    for expected in [
        "failed to parse `run.sh`: 11 mistakes\nline 1, column 15\n",
        "`010.0.10.103` is not an IPv4 address; write four decimal numbers",
        "\nline 2, column 13\n",
        "`a..b` is not a host name",
        "`a.example` is not an address; write a line as in `127.0.0.1 a.example`",
        "port `65979` is out of range",
        "`127.9.9.9` reaches into `127.0.0.0/8`",
        "where `nowhere.example` leads is not known here; write an address",
        "`$INPROXY_TEST_NOWHERE` is not known here; write `",
        "port 3 is taken by run.sh line 9; write another one",
        "`any` is only for listening; write the CID of the parent, which is 3",
        "`224.0.0.1` reaches into `224.0.0.0/4` (multicast)",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
    assert!(refused("echo hello\n").contains("there is nothing to import"));
}

proptest! {
    #[test]
    fn what_is_made_is_always_a_configuration(
        lines in prop::collection::vec(
            prop_oneof![
                "ifconfig lo:[0-9] (10\\.0\\.[0-2]\\.[0-3]|127\\.0\\.0\\.1)",
                "echo 127\\.0\\.0\\.[12] [ab]\\.[cd] [ab]\\.[cd] >> /etc/hosts",
                "socat TCP-LISTEN:(2223|443|8443)(,bind=(10\\.0\\.0\\.[0-2]|127\\.0\\.0\\.[12]|a\\.c|0\\.0\\.0\\.0))? VSOCK:3:(2223|8443|8444)",
                "socat TCP-LISTEN:2224 VSOCK:[23]:8443",
                "\\PC{0,20}",
            ],
            0..10,
        ),
    ) {
        if let Ok(text) = attempt(&lines.join("\n")) {
            let config = text.parse::<Config>();
            prop_assert!(config.is_ok(), "{}\n{}", config.unwrap_err(), text);
        }
    }
}
