//! The lines that wait to be told to outproxy: as many as there is room for, the newest of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tunnel::records::{Level, Line, Source, now};

/// Takes lines from anybody at any rate, and keeps what a connection has not delivered yet.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Not sent yet, or to be sent again.
    waiting: VecDeque<Line>,
    waiting_bytes: usize,
    /// Sent over this connection, and not confirmed.
    sent: VecDeque<Line>,
    sent_bytes: usize,
    /// How many lines there have been.
    lines: u64,
    /// The number of the last line that was sent, or that nobody will send again.
    last: u64,
    dropped: u64,
}

impl Outbox {
    /// Takes a line. With too many the oldest one is dropped.
    pub fn push(&self, source: Source, level: Level, text: String) {
        self.push_all(source, level, [text]);
    }

    /// Takes lines of one source.
    pub fn push_all(&self, source: Source, level: Level, texts: impl IntoIterator<Item = String>) {
        let time = now();
        let mut state = self.lock();
        for text in texts {
            state.lines += 1;
            let number = state.lines;
            let line = Line { number, missing: 0, time, source, level, text: text.into() };
            state.waiting_bytes += cost(&line);
            state.waiting.push_back(line);
            state.drop_oldest();
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A new connection: what the one before did not deliver is sent again.
    pub(crate) fn connect(&self) {
        let mut state = self.lock();
        if let Some(first) = state.sent.front() {
            state.last = first.number - first.missing - 1;
        }
        while let Some(line) = state.sent.pop_back() {
            state.waiting_bytes += cost(&line);
            state.waiting.push_front(line);
        }
        state.sent_bytes = 0;
        state.drop_oldest();
    }

    /// The next lines to send, as records; none if nothing waits, or if so much was not confirmed
    /// that the kernel would keep more than is worth it.
    pub(crate) fn batch(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut state = self.lock();
        for _ in 0..BATCH {
            if state.sent_bytes >= WINDOW {
                break;
            }
            let Some(mut line) = state.waiting.pop_front() else { break };
            state.waiting_bytes -= cost(&line);
            line.missing = line.number - state.last - 1;
            state.last = line.number;
            records.append(&mut line.encode());
            state.sent_bytes += cost(&line);
            state.sent.push_back(line);
        }
        if state.waiting.is_empty() {
            // After a burst it would keep its largest size.
            state.waiting.shrink_to(FEW);
        }
        records
    }

    /// All up to this number were delivered.
    pub(crate) fn confirm(&self, number: u64) {
        let mut state = self.lock();
        while let Some(line) = state.sent.pop_front_if(|line| line.number <= number) {
            state.sent_bytes -= cost(&line);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for lines that [`Self::batch`] would give.
    pub(crate) async fn sendable(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                if !state.waiting.is_empty() && state.sent_bytes < WINDOW {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Whether every line so far is at least on its way.
    pub(crate) fn is_sent(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether every line so far was delivered.
    pub(crate) fn is_delivered(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.sent.is_empty()
    }

    /// How many lines were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self) {
        while self.waiting.len() > MOST_LINES || self.waiting_bytes > MOST_BYTES {
            let Some(line) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= cost(&line);
            self.dropped += 1;
        }
    }
}

/// What a line takes, in bytes.
fn cost(line: &Line) -> usize {
    size_of::<Line>() + line.text.len()
}

/// How many lines may wait.
const MOST_LINES: usize = 2000;
/// How many bytes they may take.
const MOST_BYTES: usize = 512 << 10;
/// How many lines are sent at once at most. With the pause between batches this bounds what the
/// log takes of the thread that relays.
const BATCH: usize = 100;
/// How many bytes may be on their way. What waits in the kernel cannot give way to newer lines, and
/// would be in front of the last ones when inproxy exits.
const WINDOW: usize = 64 << 10;
/// For how many lines there is always room.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tunnel::records::Record;

    fn outbox(lines: std::ops::RangeInclusive<u64>) -> Outbox {
        let outbox = Outbox::default();
        outbox.push_all(Source::Stdout, Level::Info, lines.map(|n| n.to_string()));
        outbox
    }

    /// All that can be sent, as number, missing and text.
    fn sent(outbox: &Outbox) -> Vec<(u64, u64, String)> {
        let mut all = Vec::new();
        loop {
            let batch = outbox.batch();
            if batch.is_empty() {
                return all;
            }
            for line in batch.split_inclusive(|byte| *byte == b'\n') {
                let Some(Record::Log(line)) = Record::parse(line).unwrap() else { panic!() };
                all.push((line.number, line.missing, line.text.into()));
            }
        }
    }

    #[test]
    fn lines_come_in_order_and_are_confirmed() {
        let outbox = outbox(1..=3);
        let lines = sent(&outbox);
        assert_eq!(lines, [1, 2, 3].map(|n| (n, 0, n.to_string())));
        assert!(!outbox.is_delivered());
        outbox.confirm(2);
        assert!(!outbox.is_delivered());
        outbox.confirm(u64::MAX);
        assert!(outbox.is_delivered());
        assert_eq!(outbox.dropped(), 0);
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let most = MOST_LINES as u64;
        let outbox = outbox(1..=most + 7);
        assert_eq!(outbox.dropped(), 7);
        outbox.connect();
        let first = &sent(&outbox)[0];
        assert_eq!((first.0, first.1), (8, 7));
        let outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(Source::Stdout, Level::Info, "x".repeat(3800));
        }
        let bytes = outbox.lock().waiting_bytes;
        assert!((MOST_BYTES - 4000..=MOST_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_a_connection_did_not_deliver_is_sent_again() {
        let outbox = outbox(1..=5);
        assert_eq!(sent(&outbox).len(), 5);
        outbox.confirm(2);
        outbox.connect();
        let lines = sent(&outbox);
        assert_eq!(lines, [3, 4, 5].map(|n| (n, 0, n.to_string())));

        // Not even those that had been sent are kept for ever.
        outbox.confirm(3);
        let more = (0..MOST_LINES).map(|_| "more".to_owned());
        outbox.push_all(Source::Stdout, Level::Info, more);
        outbox.connect();
        assert_eq!(outbox.dropped(), 2);
        assert_eq!(sent(&outbox)[0], (6, 2, "more".into()));
    }

    #[test]
    fn what_was_missing_before_a_line_is_told_again_with_it() {
        let outbox = outbox(1..=MOST_LINES as u64 + 7);
        assert_eq!(sent(&outbox)[0].1, 7);
        outbox.connect();
        assert_eq!(sent(&outbox)[0].1, 7);
    }

    #[test]
    fn no_more_is_on_its_way_than_the_window_and_a_line() {
        let outbox = Outbox::default();
        let texts = (0..100).map(|_| "x".repeat(3000));
        outbox.push_all(Source::Stdout, Level::Info, texts);
        let lines = sent(&outbox);
        assert!(outbox.lock().sent_bytes < WINDOW + 4000);
        assert!(outbox.sendable().now_or_never().is_none());
        outbox.confirm(lines[0].0);
        assert!(outbox.sendable().now_or_never().is_some());
        assert_eq!(sent(&outbox).len(), 1);
    }
}
