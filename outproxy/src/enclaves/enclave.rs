//! What is known of one enclave.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tunnel::metrics::OUTCOMES;
use tunnel::records::{Application, Level, Line, MAX_TEXT, Snapshot, Source, now, printable};

use super::EnclaveId;
use super::lines::{Lines, OUTPROXY, Told, shown};
use crate::tally::seconds_since_1970;

/// An enclave, as far as it has told of itself.
#[derive(Debug)]
pub(super) struct Enclave {
    connection: Option<Connected>,
    /// In seconds since 1970.
    heard: u64,
    /// Which inproxy it is: when that one started, by the enclave's clock.
    started: Option<u64>,
    /// The number of the last line of that one.
    last_line: u64,
    pub(super) vitals: Option<Vitals>,
    pub(super) lines: Lines,
    last_order: u64,
    pub(super) counts: Counts,
}

/// The connection that is in use.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) number: u64,
    pub(super) since: u64,
    /// Tells it to end.
    pub(super) end: Arc<Notify>,
}

/// What outproxy has counted of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Lines that came, by who has written them.
    pub(super) lines: BTreeMap<Source, u64>,
    /// Lines that the enclave had no room for.
    pub(super) dropped: u64,
    /// Lines that did not get into the host's log.
    pub(super) unlogged: u64,
    /// Connections that ended because of something that is no record.
    pub(super) malformed: u64,
}

/// A [`Snapshot`] with no more in it than words that are known here.
#[derive(Clone, Debug)]
pub(super) struct Vitals {
    version: String,
    pub(super) uptime_seconds: u64,
    forwards: u64,
    pub(super) open: u64,
    pub(super) ended: BTreeMap<&'static str, u64>,
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) accept_errors: u64,
    pub(super) application: Option<Application>,
}

impl Enclave {
    /// One that is not connected, and whose lines have numbers from this one on.
    pub(super) fn new(start: u64) -> Self {
        Self {
            connection: None,
            heard: 0,
            started: None,
            last_line: 0,
            vitals: None,
            lines: Lines::new(start),
            last_order: start,
            counts: Counts::default(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// When it has last told something, in seconds since 1970.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether this is the connection in use.
    pub(super) fn uses(&self, number: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.number == number)
    }

    /// Which line was the last, among those of all enclaves.
    pub(super) fn last_order(&self) -> u64 {
        self.last_order
    }

    /// Uses another connection instead, or none.
    pub(super) fn replace(&mut self, connection: Option<Connected>) {
        if let Some(old) = std::mem::replace(&mut self.connection, connection) {
            old.end.notify_one();
        }
        self.heard = seconds_since_1970();
    }

    /// Takes a line, unless it came over an earlier connection already.
    pub(super) fn hear_line(&mut self, line: &Line, order: &mut u64) {
        self.heard = seconds_since_1970();
        if line.number <= self.last_line {
            return;
        }
        self.last_line = line.number;
        *self.counts.lines.entry(line.source).or_default() += 1;
        if line.missing > 0 {
            self.counts.dropped = self.counts.dropped.saturating_add(line.missing);
            let missing = line.missing;
            let text =
                format!("{missing} lines are missing here: the enclave had no room for them");
            self.push(order, line.time, OUTPROXY, Level::Warn, text.into(), missing);
        }
        self.push(order, line.time, line.source.word(), line.level, shown(&line.text), 0);
    }

    /// Takes what the inproxy has counted.
    pub(super) fn hear_snapshot(&mut self, snapshot: Snapshot) {
        self.heard = seconds_since_1970();
        if self.started != Some(snapshot.started) {
            self.started = Some(snapshot.started);
            self.last_line = 0;
        }
        self.vitals = Some(Vitals::from(snapshot));
    }

    /// The number of the last line that is here.
    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Adds what outproxy itself has to say, perhaps of what it was told.
    pub(super) fn note(&mut self, order: &mut u64, level: Level, text: &str) {
        self.push(order, now(), OUTPROXY, level, shown(text), 0);
    }

    fn push(
        &mut self,
        order: &mut u64,
        time: u64,
        source: &'static str,
        level: Level,
        text: Box<str>,
        missing: u64,
    ) {
        self.last_order = *order;
        self.lines.push(Told { order: *order, time, source, level, text, missing });
        *order += 1;
    }

    pub(super) fn status(&self, id: EnclaveId) -> EnclaveStatus {
        let vitals = self.vitals.as_ref();
        let number = |value: fn(&Vitals) -> u64| vitals.map(value).unwrap_or_default();
        let by_word = |counts: fn(&Vitals) -> &BTreeMap<&'static str, u64>| {
            let counts = vitals.map(counts).into_iter().flatten();
            counts.map(|(word, count)| ((*word).to_owned(), *count)).collect()
        };
        EnclaveStatus {
            cid: id.to_string(),
            connected: self.is_connected(),
            connected_since: self.connection.as_ref().map(|connection| connection.since),
            last_heard: self.heard,
            version: vitals.map(|vitals| vitals.version.clone()),
            uptime_seconds: number(|vitals| vitals.uptime_seconds),
            forwards: number(|vitals| vitals.forwards),
            open: number(|vitals| vitals.open),
            ended: by_word(|vitals| &vitals.ended),
            failed: by_word(|vitals| &vitals.failed),
            sent: number(|vitals| vitals.sent),
            received: number(|vitals| vitals.received),
            accept_errors: number(|vitals| vitals.accept_errors),
            lines: LinesStatus {
                told: self.counts.lines.values().sum(),
                dropped: self.counts.dropped,
                unlogged: self.counts.unlogged,
            },
            malformed: self.counts.malformed,
            application: vitals.and_then(|vitals| vitals.application).map(Into::into),
        }
    }
}

impl Vitals {
    /// How many connections are over, by their outcome.
    pub(super) fn over(&self) -> BTreeMap<&'static str, u64> {
        let mut over = self.ended.clone();
        for (outcome, count) in &self.failed {
            let sum = over.entry(*outcome).or_default();
            *sum = sum.saturating_add(*count);
        }
        over
    }
}

impl From<Snapshot> for Vitals {
    fn from(snapshot: Snapshot) -> Self {
        let version = printable(snapshot.version.as_bytes(), MAX_TEXT);
        Self {
            version: version.chars().take(LONGEST_VERSION).collect(),
            uptime_seconds: snapshot.uptime_seconds,
            forwards: snapshot.forwards,
            open: snapshot.open,
            ended: known_words(&snapshot.ended),
            failed: known_words(&snapshot.failed),
            sent: snapshot.sent,
            received: snapshot.received,
            accept_errors: snapshot.accept_errors,
            application: snapshot.application,
        }
    }
}

/// Counts by the words of [`OUTCOMES`]; all others together are [`OTHER`].
fn known_words(counts: &BTreeMap<String, u64>) -> BTreeMap<&'static str, u64> {
    let mut known = BTreeMap::new();
    for (word, count) in counts {
        let word = OUTCOMES.iter().find(|known| *known == word).copied().unwrap_or(OTHER);
        let sum: &mut u64 = known.entry(word).or_default();
        *sum = sum.saturating_add(*count);
    }
    known
}

/// An enclave in `/status`. Times are in seconds since 1970 (UTC).
#[derive(Debug, Deserialize, Serialize)]
pub struct EnclaveStatus {
    /// Its CID; `-` for all clients without one.
    pub cid: String,
    /// Whether it is connected to tell of itself.
    pub connected: bool,
    /// Since when, if it is.
    pub connected_since: Option<u64>,
    /// When it has last told something, or ended its connection.
    pub last_heard: u64,
    /// The version of its inproxy, as far as it has told anything.
    pub version: Option<String>,
    /// How long its inproxy had run then.
    pub uptime_seconds: u64,
    /// How many forwards it has.
    pub forwards: u64,
    /// How many connections were open then.
    pub open: u64,
    /// How many had ended, by their outcome.
    pub ended: BTreeMap<String, u64>,
    /// How many could not be made, by their outcome.
    pub failed: BTreeMap<String, u64>,
    /// Bytes that clients sent over those that ended.
    pub sent: u64,
    /// Bytes that clients received over those that ended.
    pub received: u64,
    /// How often it failed to accept.
    pub accept_errors: u64,
    /// What became of its lines.
    pub lines: LinesStatus,
    /// How many of its connections were ended since it told something that makes no sense.
    pub malformed: u64,
    /// What became of the application, if it supervises one.
    pub application: Option<ApplicationStatus>,
}

/// How many lines an enclave has told since outproxy knows it, and how many are lost.
#[derive(Debug, Deserialize, Serialize)]
pub struct LinesStatus {
    /// Lines that came.
    pub told: u64,
    /// Lines that never came: the enclave had no room for them.
    pub dropped: u64,
    /// Lines that came, but were too many for the host's log.
    pub unlogged: u64,
}

/// The application of an enclave.
#[derive(Debug, Deserialize, Serialize)]
pub struct ApplicationStatus {
    /// `running`, `exited`, `not-started` or `unknown`.
    pub state: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// Its exit status if it has ended, or 128 + n after signal n; 126 or 127 if it never ran.
    pub exit_code: Option<u8>,
}

/// For people.
impl fmt::Display for ApplicationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.exit_code) {
            (Some(pid), _) => write!(f, "{}, pid {pid}", self.state),
            (None, Some(code)) => write!(f, "{}, {code}", self.state),
            (None, None) => f.write_str(&self.state),
        }
    }
}

impl From<Application> for ApplicationStatus {
    fn from(application: Application) -> Self {
        let (state, pid, exit_code) = match application {
            Application::Exited { code } => ("exited", None, Some(code)),
            Application::NotStarted { code } => ("not-started", None, Some(code)),
            Application::Running { pid } => ("running", Some(pid), None),
            Application::Unknown => ("unknown", None, None),
        };
        Self { state: state.into(), pid, exit_code }
    }
}

/// What is not known here.
const OTHER: &str = "other";
/// Ours have five to twenty characters.
const LONGEST_VERSION: usize = 40;
