//! What is told of destinations: as JSON, and for people.

use serde::{Deserialize, Serialize};

use super::{Entry, Health, State};
use crate::status::{age, or_dash};
use crate::table::Table;
use crate::tally::seconds_at;

/// A destination that is probed. Times are in seconds since 1970 (UTC).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DestinationStatus {
    /// Its address and port.
    pub destination: String,
    /// The first rule that has it probed.
    pub rule: String,
    /// Whether it lets itself be connected.
    pub state: State,
    /// Since when; nothing if nobody has tried yet.
    pub since: Option<u64>,
    /// How long the last connect took that succeeded.
    pub latency_seconds: Option<f64>,
    /// What went wrong most recently, however long ago.
    pub last_error: Option<FailureStatus>,
}

/// Something that failed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FailureStatus {
    /// What happened.
    pub reason: String,
    /// When.
    pub time: u64,
}

impl Health {
    /// All destinations, by their addresses.
    #[must_use]
    pub fn status(&self) -> Vec<DestinationStatus> {
        self.destinations.values().map(DestinationStatus::from).collect()
    }
}

impl From<&Entry> for DestinationStatus {
    fn from(entry: &Entry) -> Self {
        let record = entry.target.record();
        let is_known = record.state != State::Unknown;
        Self {
            destination: entry.target.address.to_string(),
            rule: entry.rule.to_string(),
            state: record.state,
            since: is_known.then(|| seconds_at(record.since)),
            latency_seconds: record.latency.map(|latency| latency.as_secs_f64()),
            last_error: record.last_failure.as_ref().map(|failure| FailureStatus {
                reason: failure.reason.as_ref().into(),
                time: seconds_at(failure.at),
            }),
        }
    }
}

/// For people.
pub(crate) fn table(destinations: &[DestinationStatus], now: u64) -> Option<Table<6>> {
    let mut table = Table::new(["destination", "rule", "state", "for", "ms", "last error"]);
    for destination in destinations {
        let milliseconds = |seconds: f64| format!("{:.1}", seconds * 1000.0);
        table.add([
            destination.destination.clone(),
            destination.rule.clone(),
            destination.state.to_string(),
            or_dash(destination.since.map(|since| age(now, since))),
            or_dash(destination.latency_seconds.map(milliseconds)),
            or_dash(
                destination
                    .last_error
                    .as_ref()
                    .map(|error| format!("{} ago: {}", age(now, error.time), error.reason)),
            ),
        ]);
    }
    (!table.is_empty()).then_some(table)
}
