use tunnel::log::{LogFormat, LogLevel};

use super::*;

/// A file with every key there is.
const DOCUMENTED: &str = r#"
listen = "vsock:any:5000"

[secret]
id          = "cloudhsm/cluster-teeultuftgy"
region      = "ap-southeast-1"
credentials = "imds"
ca-bundle   = "/etc/private-ca.pem"

[hsm]
module       = "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so"
token        = "hsm1"
sessions     = 4
call-timeout = "8s"

[limits]
max-connections = 256
header-timeout  = "5s"
body-timeout    = "30s"
request-timeout = "9s"
shutdown-grace  = "10s"

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

/// The message of the only mistake.
fn mistake(text: &str) -> String {
    let report = text.parse::<Config>().unwrap_err();
    let messages: Vec<_> = report.iter().map(|mistake| mistake.message().to_owned()).collect();
    let [message] = &messages[..] else { panic!("{report}") };
    message.clone()
}

#[test]
fn the_documented_file_is_understood() {
    let config = config(DOCUMENTED);
    assert_eq!(config.listen.to_string(), "vsock:any:5000");
    let name = config.secret.name.unwrap();
    assert_eq!(name.id, "cloudhsm/cluster-teeultuftgy");
    assert_eq!(name.region, "ap-southeast-1");
    assert_eq!(config.secret.credentials, CredentialSource::Imds);
    assert_eq!(config.secret.ca_bundle.as_deref(), Some(Path::new("/etc/private-ca.pem")));
    assert_eq!(config.hsm.open.token.as_deref(), Some("hsm1"));
    assert_eq!(config.log, LogConfig::default());
}

#[test]
fn an_empty_file_has_the_documented_defaults() {
    let (empty, documented) = (config(""), config(DOCUMENTED));
    assert_eq!(empty.listen, documented.listen);
    assert_eq!(empty.secret.name, None);
    assert_eq!(empty.secret.credentials, CredentialSource::Request);
    assert_eq!(empty.secret.ca_bundle, None);
    assert_eq!(empty.hsm.open, Open { token: None, ..documented.hsm.open });
    assert_eq!(empty.hsm.call_timeout, documented.hsm.call_timeout);
    assert_eq!(empty.hsm.request_timeout, documented.hsm.request_timeout);
    assert_eq!(empty.limits, documented.limits);
    assert_eq!(empty.log, documented.log);
}

#[test]
fn what_is_written_replaces_the_defaults() {
    let config = config(
        "listen = 'unix:/run/a.sock'\n[secret]\ncredentials = 'environment'\n\
         [hsm]\nmodule = '/lib/p11.so'\nsessions = 64\ncall-timeout = '100ms'\n\
         [limits]\nmax-connections = 1\nheader-timeout = '1s'\nbody-timeout = '2s'\n\
         request-timeout = '200ms'\nshutdown-grace = '0s'\n[log]\nformat = 'json'\nlevel = 'trace'",
    );
    assert_eq!(config.listen.to_string(), "unix:/run/a.sock");
    assert_eq!(config.secret.credentials, CredentialSource::Environment);
    assert_eq!(config.hsm.open.module, Path::new("/lib/p11.so"));
    assert_eq!((config.hsm.open.token, config.hsm.open.sessions), (None, 64));
    assert_eq!(config.hsm.call_timeout, Duration::from_millis(100));
    assert_eq!(config.hsm.request_timeout, Duration::from_millis(200));
    let limits = Limits {
        max_connections: MaxConnections::new(1).unwrap(),
        header_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(2),
        shutdown_grace: Duration::ZERO,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.log, LogConfig { format: LogFormat::Json, level: LogLevel::Trace });
}

#[test]
fn all_cross_field_mistakes_are_reported_at_once() {
    assert_eq!(
        report(
            r#"listen = "tcp:localhost:5000"
[secret]
id = "cloudhsm/cluster-1"
[hsm]
call-timeout = "12s"
[limits]
request-timeout = "12s"
"#
        ),
        r#"3 mistakes
line 1, column 10
  |
1 | listen = "tcp:localhost:5000"
  |          ^^^^^^^^^^^^^^^^^^^^
`localhost` may stand for several addresses; write the one to listen on, as in `tcp:127.0.0.1:5000`

line 3, column 6
  |
3 | id = "cloudhsm/cluster-1"
  |      ^^^^^^^^^^^^^^^^^^^^
a secret is in a region; write `region = "ap-southeast-1"`, or where it is

line 5, column 16
  |
5 | call-timeout = "12s"
  |                ^^^^^
a request may take `12s`, and a call of the module that it waits for `12s`; write a shorter `call-timeout` or a longer `request-timeout`; the other is on line 7"#
    );
}

#[test]
fn a_region_without_a_secret_is_refused() {
    assert_eq!(
        mistake("[secret]\nregion = 'eu-west-1'"),
        "a region without a secret; write `id = \"cloudhsm/...\"`, or remove `region`"
    );
}

#[test]
fn a_time_that_clashes_with_a_default_is_shown() {
    for text in ["[hsm]\ncall-timeout = '9s'", "[limits]\nrequest-timeout = '8s'"] {
        assert!(mistake(text).contains("a longer `request-timeout`"), "{text}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (text, expected) in [
        ("lisen = 'unix:/a'", "unknown key `lisen`; write `listen`"),
        ("[secret]\npassword = 'x'", "unknown key `password`"),
        ("[secret]\ncredentials = 'role'", "unknown variant `role`"),
        ("[secret]\nid = ''\nregion = 'a'", "the id of a secret has 1 to 2048 bytes"),
        ("[secret]\nid = 'a'\nregion = 'evil.example/'", "as in `ap-southeast-1`"),
        ("[secret]\nca-bundle = 'ca.pem'", "`ca.pem` is not an absolute path"),
        ("[hsm]\nmodule = 'libsofthsm2.so'", "write one that begins with `/`"),
        ("[hsm]\nsessions = 0", "`0` sessions are out of range; write a number from 1 to 64"),
        ("[hsm]\nsessions = 65", "`65` sessions are out of range"),
        ("[hsm]\ntoken = ''", "`` is not the label of a token; write up to 32 bytes"),
        ("[hsm]\ntoken = 'hsm1 '", "without the blanks at its end"),
        ("[hsm]\ntoken = '012345678901234567890123456789012'", "up to 32 bytes"),
        ("[limits]\nheader-timeout = '0s'", "write a time from `1ms`"),
        ("[limits]\nbody-timeout = 30", "expected a duration such as \"5s\""),
        ("[limits]\nmax-connections = 0", "`0` connections are out of range"),
        ("[limits]\nidle-timeout = '5s'", "unknown key `idle-timeout`"),
        ("listen = 'vsock:9'", "has no port; write `vsock:<cid>:<port>`"),
    ] {
        let message = mistake(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}
