//! What rules and forwards are called that somebody has not named.

use std::collections::{HashMap, HashSet};

use crate::host::DnsName;
use crate::label::Label;

/// The names that are given already.
#[derive(Debug, Default)]
pub struct Names {
    given: HashSet<String>,
    /// The last number of each stem.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// The stem, or the stem and a number that makes it differ from the others.
    pub fn give(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        while !self.given.insert(name.clone()) {
            let number = self.numbers.entry(stem.to_owned()).or_insert(1);
            *number += 1;
            let suffix = format!("-{number}");
            let kept = stem.len().min(Label::MAX_BYTES - suffix.len());
            name = format!("{}{suffix}", &stem[..kept]);
        }
        name
    }
}

/// What a host is called by those who speak of it: `kms` for `kms.us-east-1.amazonaws.com`, and for
/// `vpce-0123.kms.us-east-1.vpce.amazonaws.com`.
#[must_use]
pub fn stem(host: &DnsName) -> &str {
    let mut labels = host.as_str().split('.');
    let is_endpoint = labels.clone().skip(2).any(|label| label == "vpce");
    let first = labels.nth(usize::from(is_endpoint)).unwrap_or_default();
    match first.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()) {
        "" => "host",
        stem => stem,
    }
}

/// Whether it is a name of the machine itself; see RFC 6761 section 6.3.
#[must_use]
pub fn is_localhost(host: &DnsName) -> bool {
    host.as_str().rsplit('.').next() == Some("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_labels() {
        let mut names = Names::default();
        let long = "a".repeat(63);
        let given: Vec<_> =
            ["hsm", "hsm-2", "hsm", "hsm", &long, &long].map(|stem| names.give(stem)).into();
        assert_eq!(given[..4], ["hsm", "hsm-2", "hsm-3", "hsm-4"]);
        assert!(given[4] != given[5] && given.iter().all(|name| name.parse::<Label>().is_ok()));
    }

    #[test]
    fn a_stem_says_which_service_it_is() {
        for (host, expected) in [
            ("secretsmanager.ap-southeast-1.amazonaws.com", "secretsmanager"),
            ("vpce-0123-ab.kms.us-east-1.vpce.amazonaws.com", "kms"),
            ("db", "db"),
            ("_x.example", "x"),
            ("--.example", "host"),
        ] {
            assert_eq!(stem(&host.parse().unwrap()), expected);
        }
    }
}
