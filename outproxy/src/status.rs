//! What a running outproxy tells of itself: as JSON, and for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clusters::ClusterStatus;
use crate::clusters::status::table as clusters;
use crate::enclaves::EnclaveStatus;
use crate::health::DestinationStatus;
use crate::health::status::table as destinations;
use crate::table::Table;
use crate::tally::seconds_since_1970;

/// The document that `/status` serves. Times are in seconds since 1970 (UTC).
#[derive(Debug, Deserialize, Serialize)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// The file that it was configured with.
    pub config: ConfigStatus,
    /// Where clients are accepted.
    pub listeners: Vec<ListenerStatus>,
    /// How many connections there are and were.
    pub connections: ConnectionsStatus,
    /// The rules, in the order in which they are tried.
    pub rules: Vec<RuleStatus>,
    /// Which destinations are up, of those that are probed.
    pub destinations: Vec<DestinationStatus>,
    /// The clusters that rules follow.
    #[serde(default)]
    pub clusters: Vec<ClusterStatus>,
    /// What enclaves tell of themselves.
    #[serde(default)]
    pub enclaves: Vec<EnclaveStatus>,
    /// What went wrong with destinations, the most recent first.
    pub last_errors: Vec<ErrorStatus>,
}

/// The file of the configuration.
#[derive(Debug, Deserialize, Serialize)]
pub struct ConfigStatus {
    /// Its path.
    pub path: String,
    /// The last time that it was read again, if it was.
    pub last_reload: Option<Reload>,
}

/// A reload of the configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reload {
    /// When it happened.
    pub time: u64,
    /// Whether the file is in force now.
    pub result: ReloadResult,
    /// Why not, if it is not.
    pub error: Option<String>,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadResult {
    /// Everything stayed as it was.
    Failed,
    /// The file is in force.
    Ok,
}

/// A `[[listen]]`.
#[derive(Debug, Deserialize, Serialize)]
pub struct ListenerStatus {
    /// Its endpoint.
    pub on: String,
    /// The destination of a raw one; nothing for a routed one.
    pub to: Option<String>,
}

/// The connections of all listeners.
#[derive(Debug, Deserialize, Serialize)]
pub struct ConnectionsStatus {
    /// How many are open.
    pub open: usize,
    /// How many may be.
    pub max: usize,
    /// How many ended, by their outcome.
    pub ended: BTreeMap<String, u64>,
    /// How many were refused, by their outcome.
    pub refused: BTreeMap<String, u64>,
}

/// An `[[allow]]`.
#[derive(Debug, Deserialize, Serialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// How many of its connections are open.
    pub open: usize,
    /// How many may be; nothing if only all rules together have a bound.
    pub max: Option<usize>,
}

/// The last error of a destination.
#[derive(Debug, Deserialize, Serialize)]
pub struct ErrorStatus {
    /// What a client asked for.
    pub destination: String,
    /// The rule that allows it, if one does.
    pub rule: Option<String>,
    /// How the connection ended, or that it was refused, in a word.
    pub outcome: String,
    /// What happened.
    pub reason: String,
    /// When.
    pub time: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = seconds_since_1970();
        writeln!(f, "outproxy {}, running for {}", self.version, rough(self.uptime_seconds))?;
        match &self.config.last_reload {
            None => writeln!(f, "{}, as it was at the start", self.config.path)?,
            Some(Reload { time, result: ReloadResult::Ok, .. }) => {
                writeln!(f, "{}, reloaded {} ago", self.config.path, age(now, *time))?;
            }
            Some(Reload { time, result: ReloadResult::Failed, error }) => {
                let error = error.as_deref().unwrap_or_default();
                let (path, age) = (&self.config.path, age(now, *time));
                writeln!(f, "{path}, not reloaded {age} ago: {error}")?;
            }
        }
        let mut listeners = Table::new(["listener", "leads to"]);
        for ListenerStatus { on, to } in &self.listeners {
            let to = to.as_ref().map_or("what its clients ask for", String::as_str);
            listeners.add([on.clone(), to.into()]);
        }
        let mut rules = Table::new(["rule", "open", "at most"]);
        for RuleStatus { name, open, max } in &self.rules {
            rules.add([name.clone(), open.to_string(), or_dash(*max)]);
        }
        rules.add([
            "(all)".into(),
            self.connections.open.to_string(),
            self.connections.max.to_string(),
        ]);
        write!(f, "\n{listeners}\n{rules}")?;
        let told = [destinations(&self.destinations, now), clusters(&self.clusters, now)];
        for table in told.into_iter().flatten() {
            write!(f, "\n{table}")?;
        }

        let mut outcomes = Table::new(["connections", "outcome", "so far"]);
        let ConnectionsStatus { ended, refused, .. } = &self.connections;
        for (what, counts) in [("ended", ended), ("refused", refused)] {
            for (outcome, count) in counts {
                outcomes.add([what.into(), outcome.clone(), count.to_string()]);
            }
        }
        let mut errors = Table::new(["last error", "age", "rule", "outcome", "reason"]);
        for error in &self.last_errors {
            errors.add([
                error.destination.clone(),
                age(now, error.time),
                or_dash(error.rule.as_ref()),
                error.outcome.clone(),
                error.reason.clone(),
            ]);
        }
        if !outcomes.is_empty() {
            write!(f, "\n{outcomes}")?;
        }
        let enclaves = enclaves(&self.enclaves, now);
        if !enclaves.is_empty() {
            write!(f, "\n{enclaves}")?;
        }
        if !errors.is_empty() {
            write!(f, "\n{errors}")?;
        }
        Ok(())
    }
}

pub(crate) fn enclaves(enclaves: &[EnclaveStatus], now: u64) -> Table<8> {
    let mut table = Table::new([
        "enclave",
        "inproxy",
        "connected",
        "heard",
        "open",
        "ended",
        "failed",
        "application",
    ]);
    for enclave in enclaves {
        table.add([
            enclave.cid.clone(),
            or_dash(enclave.version.as_ref()),
            enclave.connected_since.map_or_else(|| "no".into(), |since| age(now, since)),
            format!("{} ago", age(now, enclave.last_heard)),
            enclave.open.to_string(),
            total(&enclave.ended).to_string(),
            total(&enclave.failed).to_string(),
            or_dash(enclave.application.as_ref()),
        ]);
    }
    table
}

/// An enclave may have named any numbers.
fn total(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().fold(0, |sum, count| sum.saturating_add(*count))
}

pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

pub(crate) fn age(now: u64, time: u64) -> String {
    rough(now.saturating_sub(time))
}

/// A time in its largest unit.
fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
