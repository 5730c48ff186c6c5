//! The newest lines of an enclave, as they are kept and as they are shown.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime;
use serde::{Deserialize, Serialize};
use tunnel::queues::{Bound, Item, Queues};
use tunnel::records::{Level, MAX_TEXT, printable};

use super::EnclaveId;

/// A line, and what is known of it.
#[derive(Debug)]
pub(super) struct Told {
    /// Its place among the lines of all enclaves.
    pub(super) order: u64,
    /// In milliseconds since 1970.
    pub(super) time: u64,
    pub(super) source: &'static str,
    pub(super) level: Level,
    pub(super) text: Box<str>,
    /// How many lines this one stands for, if they are missing.
    pub(super) missing: u64,
}

/// As many lines as there is room for, the newest of each source. They are numbered, so that readers
/// know which they have missed.
#[derive(Debug)]
pub(super) struct Lines {
    start: u64,
    end: u64,
    kept: Queues<Numbered>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    line: Told,
}

impl Item for Numbered {
    type Source = &'static str;

    fn source(&self) -> &'static str {
        self.line.source
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn cost(&self) -> usize {
        size_of::<Self>() + self.line.text.len()
    }
}

impl Lines {
    /// None; the first will have this number.
    pub(super) fn new(start: u64) -> Self {
        Self { start, end: start, kept: Queues::new(BOUND) }
    }

    pub(super) fn push(&mut self, line: Told) {
        self.kept.push(Numbered { number: self.end, line });
        self.end += 1;
        while self.kept.excess().is_some() {}
    }

    /// The number of the first one that there ever was.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// All that are kept, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Told)> {
        self.from(self.start)
    }

    /// Those that are kept of those from a number on, in their order.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Told)> {
        self.kept.from(number).map(|Numbered { number, line }| (*number, line))
    }

    /// The number of the first one in this place among all enclaves' or later.
    pub(super) fn first_from(&self, order: u64) -> u64 {
        let mut lines = self.iter();
        lines.find(|(_, line)| line.order >= order).map_or(self.end, |(number, _)| number)
    }
}

/// A text of a client, as it is kept: one line, with nothing in it that steers a terminal.
pub(super) fn shown(text: &str) -> Box<str> {
    printable(text.as_bytes(), MAX_TEXT).into()
}

/// A line as `/logs` shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoggedLine {
    /// When it was written, by the enclave's clock (RFC 3339, UTC).
    pub time: String,
    /// The enclave; `-` for clients without CID.
    pub cid: String,
    /// `inproxy`, `stdout` or `stderr` of the application, `other`; or `outproxy`, for what it has
    /// to say of them.
    pub source: String,
    /// How important it is.
    pub level: Level,
    /// The line.
    pub text: String,
    /// How many lines this one stands for, if some are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
}

impl LoggedLine {
    pub(super) fn new(id: EnclaveId, line: &Told) -> Self {
        Self {
            time: rfc3339(line.time),
            cid: id.to_string(),
            source: line.source.into(),
            level: line.level,
            text: line.text.clone().into(),
            missing: (line.missing > 0).then_some(line.missing),
        }
    }

    /// So many lines were told, but do not stand here, for this reason.
    pub(super) fn gap(id: EnclaveId, time: u64, missing: u64, reason: &str) -> Self {
        Self {
            time: rfc3339(time),
            cid: id.to_string(),
            source: OUTPROXY.into(),
            level: Level::Warn,
            text: format!("{missing} lines are missing here: {reason}"),
            missing: Some(missing),
        }
    }
}

/// For people: the time, the CID, who has written it, how important it is, and the line.
impl fmt::Display for LoggedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, cid, source, level, text, .. } = self;
        write!(f, "{time} {cid} {source:<7} {:<5} {text}", level.word())
    }
}

/// Milliseconds since 1970 as a date. An enclave's clock may say what it likes; there are no dates
/// of five digits.
fn rfc3339(time: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time.min(LAST_TIME));
    humantime::format_rfc3339_millis(time).to_string()
}

/// What outproxy itself has to say.
pub(super) const OUTPROXY: &str = "outproxy";
/// The end of the year 9999, in milliseconds since 1970.
const LAST_TIME: u64 = 253_402_300_799_999;
/// How much of one enclave is kept.
const BOUND: Bound = Bound { items: 1000, bytes: 256 << 10 };

#[cfg(test)]
mod tests {
    use super::*;

    fn told(order: u64, text: &str) -> Told {
        let text = shown(text);
        Told { order, time: 0, source: "stdout", level: Level::Info, text, missing: 0 }
    }

    fn numbers<'a>(lines: impl Iterator<Item = (u64, &'a Told)>) -> Vec<u64> {
        lines.map(|(number, _)| number).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_and_keep_their_numbers() {
        let mut lines = Lines::new(7);
        let most = BOUND.items as u64;
        (0..most + 3).for_each(|order| lines.push(told(2 * order, "x")));
        assert_eq!((lines.start(), lines.end), (7, 7 + most + 3));
        assert_eq!(numbers(lines.iter()).len(), BOUND.items);
        assert_eq!(numbers(lines.iter())[0], 10);
        assert_eq!(numbers(lines.from(0))[0], 10);
        assert_eq!(numbers(lines.from(lines.end - 1)), [lines.end - 1]);
        assert!(numbers(lines.from(u64::MAX)).is_empty());
        assert_eq!(lines.first_from(0), 10);
        assert_eq!(lines.first_from(2 * 5 - 1), 7 + 5);
        assert_eq!(lines.first_from(u64::MAX), lines.end);
    }

    #[test]
    fn long_lines_are_fewer() {
        let mut lines = Lines::new(0);
        (0..200).for_each(|order| lines.push(told(order, &"x".repeat(10_000))));
        let bytes = lines.kept.bytes();
        assert!(bytes <= BOUND.bytes && bytes > BOUND.bytes - 5000);
        let (_, Told { text, .. }) = lines.iter().next().unwrap();
        assert!(text.ends_with("x… and 6200 bytes more"), "{text}");
    }

    #[test]
    fn a_flood_pushes_out_no_words_of_another() {
        let mut lines = Lines::new(0);
        lines.push(Told { source: "stderr", ..told(0, "the end") });
        let flood = 3 * BOUND.items as u64;
        (1..=flood).for_each(|order| lines.push(told(order, "y")));
        lines.push(Told { source: "inproxy", ..told(flood + 1, "last words") });
        let kept = numbers(lines.iter());
        assert_eq!((kept.len(), kept[0], kept[1]), (BOUND.items, 0, 2003));
        assert_eq!(kept.last(), Some(&(flood + 1)));
    }

    #[test]
    fn a_line_is_shown_in_one_line_whatever_its_time() {
        let mut line = told(0, "a\nb\u{1b}[2J");
        line.time = u64::MAX;
        let shown = LoggedLine::new("16".parse().unwrap(), &line).to_string();
        assert_eq!(shown, r"9999-12-31T23:59:59.999Z 16 stdout  info  a\nb\u{1b}[2J");
    }
}
