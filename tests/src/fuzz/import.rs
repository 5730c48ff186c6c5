//! Files of other programs that are made into configurations.

use std::fmt::Debug;
use std::path::Path;
use std::str::FromStr;

use tunnel::config::{ConfigError, Report};
use tunnel::import::ImportError;
use tunnel::import::script::Variables;
use tunnel::import::source::Source;

use super::config::judge;
use super::shown::assert_lines;

/// A script that prepares an enclave.
pub fn inproxy_import(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let convert = |sources| inproxy::import::convert(sources, Vec::new(), variables());
    let Some(made) = import::<inproxy::config::Config>("run.sh", &text, convert) else { return };
    // What stands there as better is a configuration, too.
    let better = made.split_once("\n# Better").map(|(_, better)| uncommented(better));
    if let Some(better) = better.filter(|better| better.contains("[[forward]]")) {
        let config: inproxy::config::Config = parse(&better);
        assert!(config.forwards.iter().all(|forward| forward.via.is_none()), "{better}");
    }
}

/// An allowlist of vsock-proxy; and whatever else outproxy takes it for by what is in it.
pub fn outproxy_import(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let convert = |sources| outproxy::import::convert(sources, Vec::new(), variables());
    for name in ["vsock-proxy.yaml", "run"] {
        if let Some(made) = import::<outproxy::config::Config>(name, &text, convert) {
            let config: outproxy::config::Config = parse(&made);
            assert!(!config.listeners.is_empty(), "{made}");
        }
    }
}

/// What is made is a configuration, the same each time; else there are mistakes that can be shown.
fn import<Config: Debug + FromStr<Err = Report>>(
    name: &str,
    text: &str,
    convert: impl Fn(Vec<Source>) -> Result<String, ImportError>,
) -> Option<String> {
    let source = || vec![Source::new(Path::new(name), text)];
    match (convert(source()), convert(source())) {
        (Ok(made), Ok(again)) => {
            assert_eq!(made, again);
            assert_lines(&made, SHORTEST + GROWTH * text.len());
            let _: Config = parse(&made);
            Some(made)
        }
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            let [ConfigError::Mistakes { report, .. }] = &one.0[..] else { panic!("{one}") };
            judge(text, report);
            None
        }
        (one, other) => panic!("{one:?}, and then {other:?}"),
    }
}

fn parse<Config: FromStr<Err = Report>>(text: &str) -> Config {
    text.parse().unwrap_or_else(|report| panic!("{report}\n{text}"))
}

/// The lines that are TOML behind their `#`.
fn uncommented(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
    let lines = lines.filter(|line| !line.starts_with(' '));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Nothing of this process gets into what is made.
fn variables() -> Variables {
    Variables::new(|_| None)
}

/// How long it is, in characters, whatever the text.
const SHORTEST: usize = 4000;
/// By how much it may be longer than the text: a command of one letter is repeated in a sentence.
const GROWTH: usize = 100;
