//! Records: what an inproxy tells its outproxy of itself, for an enclave has no console.
//!
//! inproxy opens one connection beside its tunnels, on which it writes JSON objects, one a line, of
//! at most [`MAX_RECORD`] bytes: first a [`Snapshot`], then [`Line`]s of the log, and snapshots
//! whenever something has changed. They have no byte of payload in them. outproxy answers with the
//! number of the last line that it has got, in decimal, one number a line: what was not confirmed
//! is sent again over the next connection, so that the count of lines that are missing is right
//! also where outproxy was killed.

mod printable;
mod reader;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::printable::{printable, printable_beginning};
pub use self::reader::{Malformed, RecordReader};

use crate::queues::Item;

/// The longest record, in bytes, with the end of its line.
pub const MAX_RECORD: usize = 8 * 1024;

/// The longest [`Line::text`] that is sent, in bytes. In JSON each may take two.
pub const MAX_TEXT: usize = 3800;

/// What stands in a line of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// `{"log": ..}`
    Log(Line),
    /// `{"snapshot": ..}`
    Snapshot(Snapshot),
}

/// Keys that only a later version knows are left alone: the image of an enclave and the host are
/// not renewed at the same time.
#[derive(Deserialize)]
struct Received {
    log: Option<Line>,
    snapshot: Option<Snapshot>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Sent<'a> {
    Log(&'a Line),
    Snapshot(&'a Snapshot),
}

impl Record {
    /// Reads a line, with or without its end. `None`: it is of a kind that is not known here.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; whoever sent it is no inproxy.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, RecordError> {
        let Received { log, snapshot } = serde_json::from_slice(line).map_err(RecordError)?;
        Ok(log.map(Self::Log).or_else(|| snapshot.map(Self::Snapshot)))
    }
}

/// A line that is no record.
#[derive(Debug, Error)]
#[error("it is not a record: {0}")]
pub struct RecordError(serde_json::Error);

/// A line of a log, or of what the application has written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Line {
    /// Which of all lines since the start it is; the first is 1.
    pub number: u64,
    /// How many lines before it will never come.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// When it was written, in milliseconds since 1970 (UTC), by the enclave's clock.
    pub time: u64,
    /// Who has written it.
    pub source: Source,
    /// How important it is.
    pub level: Level,
    /// The line itself, without its end.
    pub text: Box<str>,
}

impl Line {
    /// The line as a record, with the end of its line.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&Sent::Log(self))
    }

    /// Appends the line as a record to others.
    pub fn encode_to(&self, records: &mut Vec<u8>) {
        encode_to(&Sent::Log(self), records);
    }
}

impl Item for Line {
    type Source = Source;

    fn source(&self) -> Source {
        self.source
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn cost(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// Who has written a line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The log of inproxy.
    Inproxy,
    /// The application, to its standard error.
    Stderr,
    /// The application, to its standard output.
    Stdout,
    /// Somebody whom only a later version knows.
    #[serde(other)]
    Other,
}

impl Source {
    /// A word, one of few.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Inproxy => "inproxy",
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
            Self::Other => "other",
        }
    }
}

/// How important a line is. The application's are `info`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It is for whoever looks for a mistake.
    Debug,
    /// Somebody must act.
    Error,
    /// It tells more than one wants to know.
    Trace,
    /// It may become an error.
    Warn,
    /// It tells what happens; also what only a later version knows, which serde wants last.
    #[serde(other)]
    Info,
}

impl Level {
    /// A word, one of few.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Error => "error",
            Self::Info => "info",
            Self::Trace => "trace",
            Self::Warn => "warn",
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::ERROR => Self::Error,
            tracing::Level::INFO => Self::Info,
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::WARN => Self::Warn,
        }
    }
}

/// What an inproxy has counted so far. What another version does not tell is zero.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Snapshot {
    /// The version that runs.
    pub version: String,
    /// When it started, in milliseconds since 1970 (UTC), by the enclave's clock: it tells one
    /// start from another.
    pub started: u64,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// How many forwards it has.
    pub forwards: u64,
    /// How many connections are open.
    pub open: u64,
    /// How many ended, by their outcome.
    pub ended: BTreeMap<String, u64>,
    /// How many could not be made, by their outcome.
    pub failed: BTreeMap<String, u64>,
    /// How many bytes clients sent over connections that ended.
    pub sent: u64,
    /// How many bytes clients received over connections that ended.
    pub received: u64,
    /// How often accept(2) failed for want of something.
    pub accept_errors: u64,
    /// How many lines will never come, since there was no room for them.
    pub lines_dropped: u64,
    /// What became of the application, if there is one.
    pub application: Option<Application>,
}

impl Snapshot {
    /// The snapshot as a record, with the end of its line.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&Sent::Snapshot(self))
    }
}

/// What became of the application that inproxy supervises.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Application {
    /// It has ended.
    Exited {
        /// Its exit status, or 128 + n after signal n.
        code: u8,
    },
    /// It could not be run.
    NotStarted {
        /// What a shell would exit with.
        code: u8,
    },
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Something that only a later version knows.
    #[serde(other)]
    Unknown,
}

/// The time now, in milliseconds since 1970; 0 while the clock is set before.
#[must_use]
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn encode(record: &Sent<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    encode_to(record, &mut line);
    line
}

fn encode_to(record: &Sent<'_>, records: &mut Vec<u8>) {
    // Maps with keys of text, and numbers: JSON has them all. And a vector takes all.
    let _ = serde_json::to_writer(&mut *records, record);
    records.push(b'\n');
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            number: u64::MAX,
            missing: u64::MAX,
            time: u64::MAX,
            source: Source::Inproxy,
            level: Level::Error,
            text: text.into(),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let line = line("a \"quoted\" word, a \\ and a \u{fffd}");
        let encoded = line.encode();
        assert_eq!(encoded.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Record::parse(&encoded).unwrap(), Some(Record::Log(line)));
        let snapshot = Snapshot {
            version: "0.1.0".into(),
            ended: [("finished".to_owned(), 7)].into(),
            application: Some(Application::Exited { code: 7 }),
            ..Snapshot::default()
        };
        let encoded = snapshot.encode();
        assert_eq!(Record::parse(&encoded).unwrap(), Some(Record::Snapshot(snapshot)));
    }

    #[test]
    fn the_longest_text_makes_no_record_that_is_too_long() {
        for worst in ["\"", "\\", "\u{1}", "\u{10ffff}", "\r"] {
            let text = printable(worst.repeat(MAX_RECORD).as_bytes(), MAX_TEXT);
            assert!(line(&text).encode().len() <= MAX_RECORD, "{worst:?}");
        }
    }

    #[test]
    fn what_only_a_later_version_knows_is_left_alone() {
        assert_eq!(Record::parse(b"{\"profile\":{\"a\":[1]}}\n").unwrap(), None);
        let record =
            b"{\"log\":{\"number\":1,\"time\":2,\"source\":\"kernel\",\"level\":\"fatal\",\
                       \"text\":\"x\",\"color\":7}}";
        let Some(Record::Log(line)) = Record::parse(record).unwrap() else { panic!("no line") };
        assert_eq!((line.source, line.level, line.missing), (Source::Other, Level::Info, 0));
        let record = b"{\"snapshot\":{\"application\":{\"state\":\"paused\",\"by\":7}}}";
        let snapshot = Snapshot { application: Some(Application::Unknown), ..Snapshot::default() };
        assert_eq!(Record::parse(record).unwrap(), Some(Record::Snapshot(snapshot)));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "\0",
            "[]",
            "7",
            "{\"log\":7}",
            "{\"log\":{}}",
            "{\"log\":{\"number\":-1}}",
            "{} {}",
            "GET / HTTP/1.1",
        ] {
            assert!(Record::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "[".repeat(MAX_RECORD - 10);
        assert!(Record::parse(format!("{{\"x\":{deep}").as_bytes()).is_err());
    }
}
