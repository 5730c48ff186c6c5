//! Tries every destination that the configuration names, as outproxy itself would reach it.

mod advice;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Serialize, Serializer};
use tokio::time::Instant;
use tunnel::chain::Chain;
use tunnel::destination::{Destination, Port};
use tunnel::host::Host;

use crate::allowlist::{HostPattern, Rule};
use crate::config::Config;
use crate::dial::DialError;
use crate::policy::Policy;
use crate::table::Table;

/// How many destinations are tried at once.
pub const MOST_AT_ONCE: usize = 16;

/// Resolves and dials every host of every rule on every port of the rule, with the name servers
/// and the `connect-timeout` of `config`, and closes each connection at once.
///
/// A success means that a client of the rule would get through, not that every address of a name
/// answers.
pub async fn examine(config: &Config) -> Examination {
    let policy = Policy::new(config);
    let rules = policy.allowlist.rules().iter();
    let hosts = rules.flat_map(|rule| rule.hosts.iter().map(move |host| (rule, host)));
    let probes =
        hosts.flat_map(|(rule, host)| rule.ports.iter().map(move |port| (rule, host, *port)));
    let findings = stream::iter(probes)
        .map(|(rule, host, port)| probe(&policy, rule, host, port))
        .buffered(MOST_AT_ONCE)
        .collect()
        .await;
    Examination { findings }
}

/// What became of all destinations, in the order of the file.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// One for each host and port of each rule.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Whether no destination failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.findings.iter().any(|finding| matches!(finding.result, Verdict::Failed(_)))
    }
}

/// What became of one destination.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The rule that lists it.
    pub rule: String,
    /// The destination, or all those of a block or suffix.
    pub destination: String,
    /// The address that was connected, or that failed.
    pub address: Option<SocketAddr>,
    /// In a word.
    pub result: Verdict,
    /// How long it took.
    pub milliseconds: Option<f64>,
    /// What happened, if it is not a success.
    pub reason: Option<String>,
    /// What to do about a failure.
    pub advice: Option<&'static str>,
}

/// Whether a destination can be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It cannot, for a reason in a word.
    Failed(&'static str),
    /// It can.
    Ok,
    /// Nobody knows, since what is written stands for many hosts.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(word) => word,
            Self::Ok => "ok",
            Self::Skipped => "skipped",
        })
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

async fn probe(policy: &Policy, rule: &Rule, pattern: &HostPattern, port: Port) -> Finding {
    let rule_name = rule.name.to_string();
    let host = match pattern {
        HostPattern::Address(ip) => Host::from(*ip),
        HostPattern::Name(name) => Host::Name(name.clone()),
        HostPattern::Network(_) | HostPattern::Suffix(_) => {
            return Finding {
                rule: rule_name,
                destination: format!("{pattern} port {port}"),
                address: None,
                result: Verdict::Skipped,
                milliseconds: None,
                reason: Some(format!(
                    "`{pattern}` stands for many hosts; list one to have it tried"
                )),
                advice: None,
            };
        }
    };
    let destination = Destination { host, port };
    // Any of its clients will do: which one matters only to rules that list reserved addresses.
    let client = rule.cids.as_ref().and_then(|cids| cids.first().copied());
    let started = Instant::now();
    let dialled = policy.dial(client, &destination).await;
    let milliseconds = Some(tenths_of_milliseconds(started.elapsed()));
    let (address, result, reason, advice) = match dialled {
        Ok((stream, address)) => {
            // Dropped, it would be reset, which some services log as an attack.
            stream.finish();
            (Some(address), Verdict::Ok, None, None)
        }
        Err(error) => {
            let (word, advice) = advice::on(&error);
            (
                address_of(&error),
                Verdict::Failed(word),
                Some(Chain(&error).to_string()),
                Some(advice),
            )
        }
    };
    let destination = destination.to_string();
    Finding { rule: rule_name, destination, address, result, milliseconds, reason, advice }
}

fn address_of(error: &DialError) -> Option<SocketAddr> {
    match error {
        DialError::Local { addr, .. }
        | DialError::Refused { addr }
        | DialError::TimedOut { addr, .. }
        | DialError::Unreachable { addr, .. } => Some(*addr),
        DialError::Dns(_) | DialError::Prohibited { .. } => None,
    }
}

fn tenths_of_milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["rule", "destination", "address", "result", "ms"]);
        for finding in &self.findings {
            table.add([
                finding.rule.clone(),
                finding.destination.clone(),
                finding.address.map_or_else(|| "-".into(), |address| address.to_string()),
                finding.result.to_string(),
                finding.milliseconds.map_or_else(|| "-".into(), |time| format!("{time:.1}")),
            ]);
        }
        write!(f, "{table}")?;
        for finding in &self.findings {
            if let Some(reason) = &finding.reason {
                writeln!(f, "\n{} ({}): {reason}", finding.destination, finding.rule)?;
            }
            if let Some(advice) = finding.advice {
                writeln!(f, "  {advice}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
