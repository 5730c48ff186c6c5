//! Configuration files.

use std::fmt::Debug;
use std::str::FromStr;

use tunnel::config::Report;

use super::shown::{assert_line, assert_lines};

/// A file of outproxy.
pub fn outproxy_config(data: &[u8]) {
    config::<outproxy::config::Config>(data);
}

/// A file of inproxy.
pub fn inproxy_config(data: &[u8]) {
    config::<inproxy::config::Config>(data);
}

/// A file of enclave-app.
#[cfg(target_env = "gnu")]
pub fn enclave_app_config(data: &[u8]) {
    config::<enclave_app::config::Config>(data);
}

/// It is a configuration, the same each time, or has mistakes that can be shown to whoever made
/// them.
fn config<Config: Debug + FromStr<Err = Report>>(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match (text.parse::<Config>(), text.parse::<Config>()) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            judge(&text, &one);
        }
        (one, other) => panic!("{one:?}, and then {other:?}"),
    }
}

pub(super) fn judge(text: &str, report: &Report) {
    let shown = report.to_string();
    assert_lines(&shown, Report::SHOWN * (MAX_PLACE + MAX_MESSAGE) + 40);
    assert!((1..=Report::SHOWN).contains(&report.iter().count()), "{shown}");
    // A byte order mark is on no line.
    let lines = 1 + text.matches('\n').count();
    for mistake in report.iter() {
        assert!(mistake.line().is_none_or(|line| (1..=lines).contains(&line)), "{shown}");
        assert!(!mistake.message().is_empty(), "{shown}");
        assert_line(mistake.message(), MAX_MESSAGE);
    }
}

/// 80 characters, each of them at most `\u{10ffff}`, with as many carets, and what stands around.
const MAX_PLACE: usize = 2 * 80 * 10 + 100;
/// 400 characters, and the line of another mistake.
const MAX_MESSAGE: usize = 400 + 40;
