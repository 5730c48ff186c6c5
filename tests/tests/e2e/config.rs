//! Every mistake is found before anything is touched, and is shown with its place.

use std::fs;
use std::process::{Command, Output};

use tests::proxies::binary;
use tests::world::World;

crate::scenarios![
    every_mistake_of_outproxy_is_shown_with_its_line,
    every_mistake_of_inproxy_is_shown_with_its_line,
    all_mistakes_of_one_file_are_shown_at_once,
    a_huge_file_and_a_missing_one_are_refused,
    what_is_no_usage_exits_with_2,
    a_good_file_is_good,
    what_is_imported_is_good,
];

const OUTPROXY: &str = "[[listen]]
on = 'vsock:any:8443'
[[listen]]
on = 'vsock:any:2223'
to = '10.0.10.103:2223'
[[allow]]
name = 'hsm'
hosts = ['10.0.10.103']
ports = [2223]
";

const INPROXY: &str = "outproxy = 'vsock:3:8443'
[[forward]]
name = 'hsm'
addresses = ['10.0.10.0/24']
ports = [2223]
[[forward]]
name = 'raw'
addresses = ['10.0.20.5']
ports = [2223]
via = 'vsock:3:2223'
";

fn every_mistake_of_outproxy_is_shown_with_its_line(world: &World) {
    let cases = [
        ("ports = [2223]", "prots = [2223]", "prots"),
        ("ports = [2223]", "ports = 2223", "invalid type"),
        ("ports = [2223]", "ports = ['2223']", "invalid type"),
        ("ports = [2223]", "ports = [0]", "`0`"),
        ("ports = [2223]", "ports = [65979]", "`65979`"),
        ("ports = [2223]", "ports = [2223]\ncids = [4294967296]", "4294967296"),
        ("vsock:any:8443", "vsock:any", "vsock"),
        ("vsock:any:8443", "vsock:-1:8443", "-1"),
        ("vsock:any:8443", "vsock:any:2223", "cannot be bound beside"),
        ("to = '10.0.10.103:2223'", "to = '10.0.10.104:2223'", "no `[[allow]]` lists"),
        ("hosts = ['10.0.10.103']", "hosts = ['010.0.10.103']", "010.0.10.103"),
        ("hosts = ['10.0.10.103']", "hosts = ['0x7f.1']", "0x7f.1"),
        ("hosts = ['10.0.10.103']", "hosts = ['127.1']", "127.1"),
        ("hosts = ['10.0.10.103']", "hosts = ['2130706433']", "2130706433"),
        ("hosts = ['10.0.10.103']", "hosts = ['0177.0.0.1']", "0177.0.0.1"),
        ("hosts = ['10.0.10.103']", "hosts = ['10.0.10.103/24']", "10.0.10.0/24"),
        (
            "hosts = ['10.0.10.103']",
            "cloudhsm-cluster = 'cluster-teeultuftgy'\nregion = 'eu-west-1'",
            "built without the feature cloudhsm",
        ),
    ];
    for (good, bad, message) in cases {
        refused(world, "outproxy", OUTPROXY, good, bad, message);
    }
    let twice = "ports = [2223]\n[[allow]]\nname = 'hsm'\nhosts = ['10.0.10.104']\nports = [1]";
    refused(world, "outproxy", OUTPROXY, "ports = [2223]", twice, "named `hsm`");
}

fn every_mistake_of_inproxy_is_shown_with_its_line(world: &World) {
    let cases = [
        ("via = 'vsock:3:2223'", "vai = 'vsock:3:2223'", "vai"),
        ("via = 'vsock:3:2223'", "via = 'vsock:3:8443'", "this is `outproxy`"),
        ("via = 'vsock:3:2223'", "via = 'vsock:any:2223'", "only for listening"),
        ("via = 'vsock:3:2223'", "via = 'vsock:4294967296:2223'", "4294967296"),
        ("['10.0.20.5']", "['10.0.10.5']", "overlaps"),
        ("['10.0.20.5']", "['10.0.20.0/24']", "one address and one port"),
        ("['10.0.20.5']", "['127.0.0.0/8']", "loopback"),
        ("'raw'", "'hsm'", "named `hsm`"),
        ("['10.0.20.5']", "['10.0.20.05']", "10.0.20.05"),
        ("'vsock:3:8443'", "8443", "invalid type"),
    ];
    for (good, bad, message) in cases {
        refused(world, "inproxy", INPROXY, good, bad, message);
    }
}

fn all_mistakes_of_one_file_are_shown_at_once(world: &World) {
    let config = OUTPROXY.replace("vsock:any:8443", "vsock:any:2223").replace(".103:", ".9:");
    let (code, message) = check(world, "outproxy", config.as_bytes());
    assert_eq!(code, Some(78));
    assert!(message.contains("cannot be bound beside") && message.contains("lists"), "{message}");
}

fn a_huge_file_and_a_missing_one_are_refused(world: &World) {
    let huge = OUTPROXY.to_owned() + &"#".repeat(10 << 20);
    for (name, good) in [("outproxy", OUTPROXY), ("inproxy", INPROXY)] {
        let (code, message) = check(world, name, huge.as_bytes());
        assert!(code == Some(78) && message.contains("config.toml"), "{message}");
        let (code, message) = check(world, name, &[good.as_bytes(), b"# \xff"].concat());
        assert!(code == Some(78) && message.contains("config.toml"), "{message}");
        let missing = world.directory().join("missing.toml");
        let output = run(name, &["--check", "--config", missing.to_str().unwrap()]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(78) && message.contains("missing.toml"), "{message}");
    }
}

fn what_is_no_usage_exits_with_2(_: &World) {
    for name in ["outproxy", "inproxy"] {
        assert_eq!(run(name, &["--no-such-option"]).status.code(), Some(2));
        assert_eq!(run(name, &["--help"]).status.code(), Some(0));
    }
}

fn a_good_file_is_good(world: &World) {
    for (name, config) in [("outproxy", OUTPROXY), ("inproxy", INPROXY)] {
        assert_eq!(check(world, name, config.as_bytes()), (Some(0), String::new()));
    }
}

fn what_is_imported_is_good(world: &World) {
    let cases = [
        (
            "outproxy",
            "allowlist:\n- {address: 10.0.10.103, port: 2223}\n",
            "port: 2223",
            "port: 65979",
        ),
        (
            "inproxy",
            "socat TCP-LISTEN:2223,fork VSOCK-CONNECT:3:2223 &\n",
            "TCP-LISTEN:2223",
            "TCP-LISTEN:65979",
        ),
    ];
    for (name, file, good, bad) in cases {
        let path = world.directory().join("old");
        fs::write(&path, file).unwrap();
        let output = run(name, &["import", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(check(world, name, &output.stdout), (Some(0), String::new()));

        fs::write(&path, file.replace(good, bad)).unwrap();
        let output = run(name, &["import", path.to_str().unwrap()]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(78), Vec::new()), "{message}");
        assert!(message.contains("line ") && message.contains("`65979`"), "{message}");
        assert_eq!(run(name, &["import", "/nonexistent"]).status.code(), Some(78));
        assert_eq!(run(name, &["import"]).status.code(), Some(2));
    }
}

/// Puts `bad` in the place of `good`, and expects the line of it in the message.
fn refused(world: &World, name: &str, config: &str, good: &str, bad: &str, expected: &str) {
    assert!(config.contains(good), "{good}");
    let config = config.replacen(good, bad, 1);
    let (code, message) = check(world, name, config.as_bytes());
    assert_eq!(code, Some(78), "{bad}: {message}");
    assert!(message.contains(expected), "{bad}: {message}");
    assert!(message.contains("config.toml") && message.contains("\nline "), "{bad}: {message}");
}

fn check(world: &World, name: &str, config: &[u8]) -> (Option<i32>, String) {
    let path = world.directory().join("config.toml");
    fs::write(&path, config).unwrap();
    let output = run(name, &["--check", "--config", path.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(binary(name)).args(arguments).output().unwrap()
}
