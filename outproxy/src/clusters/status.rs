//! What is told of clusters: as JSON, and for people.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Clusters, Followed, Members};
use crate::health::status::FailureStatus;
use crate::status::{age, or_dash};
use crate::table::Table;
use crate::tally::seconds_at;

/// A cluster that rules follow. Times are in seconds since 1970 (UTC).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterStatus {
    /// Its ID.
    pub cluster: String,
    /// Where it is.
    pub region: String,
    /// Whether AWS answers.
    pub state: State,
    /// When it last did; nothing if it never has.
    pub last_answer: Option<u64>,
    /// Why it did not, most recently, however long ago.
    pub last_error: Option<FailureStatus>,
    /// The addresses of its HSMs.
    pub allowed: Vec<String>,
    /// Those of HSMs that are being deleted, or gone.
    pub draining: Vec<String>,
    /// What the last answer had in the place of addresses, and no HSM can have.
    pub skipped: Vec<String>,
}

/// Whether AWS answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It did, when it was asked last.
    Answering,
    /// It did not.
    Failing,
    /// The first answer is not there yet.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answering => "answering",
            Self::Failing => "failing",
            Self::Unknown => "unknown",
        })
    }
}

impl Clusters {
    /// All clusters, by their IDs.
    #[must_use]
    pub fn status(&self) -> Vec<ClusterStatus> {
        self.followed.values().map(|followed| ClusterStatus::from(&**followed)).collect()
    }
}

impl From<&Followed> for ClusterStatus {
    fn from(followed: &Followed) -> Self {
        let record = followed.lock();
        let state = match record.answered_at {
            _ if record.is_failing => State::Failing,
            Some(_) => State::Answering,
            None => State::Unknown,
        };
        let Members { allowed, draining } = record.members.clone().unwrap_or_default();
        Self {
            cluster: followed.cluster.id.to_string(),
            region: followed.cluster.region.to_string(),
            state,
            last_answer: record.answered_at.map(seconds_at),
            last_error: record.last_fault.as_ref().map(|(fault, at)| FailureStatus {
                reason: fault.to_string(),
                time: seconds_at(*at),
            }),
            allowed: texts(&allowed),
            draining: texts(&draining),
            skipped: texts(&record.skipped),
        }
    }
}

fn texts(values: &BTreeSet<impl ToString>) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// For people.
pub(crate) fn table(clusters: &[ClusterStatus], now: u64) -> Option<Table<6>> {
    let mut table = Table::new(["cluster", "aws", "answered", "hsms", "draining", "last error"]);
    let list = |addresses: &[String]| or_dash((!addresses.is_empty()).then(|| addresses.join(" ")));
    let ago = |time| format!("{} ago", age(now, time));
    for cluster in clusters {
        let error = cluster.last_error.as_ref();
        table.add([
            cluster.cluster.clone(),
            cluster.state.to_string(),
            or_dash(cluster.last_answer.map(ago)),
            list(&cluster.allowed),
            list(&cluster.draining),
            or_dash(error.map(|error| format!("{}: {}", ago(error.time), error.reason))),
        ]);
    }
    (!table.is_empty()).then_some(table)
}
