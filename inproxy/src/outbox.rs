//! The lines that wait to be told to outproxy: as many as there is room for, the newest of each
//! source.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tunnel::queues::{Bound, Item as _, Queues};
use tunnel::records::{Level, Line, Source, now};

/// Takes lines from anybody at any rate, and keeps what a connection has not delivered yet.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Not sent yet, or to be sent again.
    waiting: Queues<Line>,
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
    /// Takes a line. With too many the oldest one of whoever has most is dropped.
    pub fn push(&self, source: Source, level: Level, text: String) {
        let line = Line { number: 0, missing: 0, time: now(), source, level, text: text.into() };
        let mut dropped = Vec::new();
        self.lock().add(line, &mut dropped);
        drop(dropped);
        self.changed.notify_one();
    }

    /// Takes lines of one source, before which there were others that are not worth being made: so
    /// many are counted as dropped. Of more than [`MOST_LINES`] the first ones are.
    pub fn push_all(
        &self,
        source: Source,
        level: Level,
        skipped: u64,
        texts: impl IntoIterator<Item = String>,
    ) {
        // The thread that relays may wait for the lock. So it is held for a few lines at a time, and
        // memory is taken before and given back after.
        let time = now();
        let mut lines = texts.into_iter().map(|text| {
            let text = text.into();
            Line { number: 0, missing: 0, time, source, level, text }
        });
        let room = lines.size_hint().0.min(AT_ONCE);
        let (mut few, mut dropped) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut skipped = skipped;
        loop {
            few.extend(lines.by_ref().take(AT_ONCE));
            if few.is_empty() && skipped == 0 {
                break;
            }
            let mut state = self.lock();
            state.lines += skipped;
            state.dropped += mem::take(&mut skipped);
            for line in few.drain(..) {
                state.add(line, &mut dropped);
            }
            drop(state);
            dropped.clear();
        }
        self.changed.notify_one();
    }

    /// A new connection: what the one before did not deliver is sent again.
    pub(crate) fn connect(&self) {
        let mut state = self.lock();
        if let Some(first) = state.sent.front() {
            state.last = first.number - first.missing - 1;
        }
        while let Some(line) = state.sent.pop_back() {
            state.waiting.put_back(line);
        }
        state.sent_bytes = 0;
        state.drop_excess(&mut Vec::new());
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
            let Some(mut line) = state.waiting.pop() else { break };
            line.missing = line.number - state.last - 1;
            state.last = line.number;
            line.encode_to(&mut records);
            state.sent_bytes += line.cost();
            state.sent.push_back(line);
        }
        records
    }

    /// All up to this number were delivered.
    pub(crate) fn confirm(&self, number: u64) {
        let mut state = self.lock();
        while let Some(line) = state.sent.pop_front_if(|line| line.number <= number) {
            state.sent_bytes -= line.cost();
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
    /// Takes a line, which gets its number, and moves to `dropped` what is too much then.
    fn add(&mut self, line: Line, dropped: &mut Vec<Line>) {
        self.lines += 1;
        self.waiting.push(Line { number: self.lines, ..line });
        self.drop_excess(dropped);
    }

    /// Counts as dropped what is too much, and moves it to `dropped`.
    fn drop_excess(&mut self, dropped: &mut Vec<Line>) {
        while let Some(line) = self.waiting.excess() {
            self.dropped += 1;
            dropped.push(line);
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            waiting: Queues::new(BOUND),
            sent: VecDeque::new(),
            sent_bytes: 0,
            lines: 0,
            last: 0,
            dropped: 0,
        }
    }
}

/// How many lines may wait.
pub const MOST_LINES: usize = 2000;
/// How much they may be.
const BOUND: Bound = Bound { items: MOST_LINES, bytes: 512 << 10 };
/// For how many lines the lock is held.
const AT_ONCE: usize = 64;
/// How many lines are sent at once at most. With the pause between batches this bounds what the
/// log takes of the thread that relays.
const BATCH: usize = 100;
/// How many bytes may be on their way. What waits in the kernel cannot give way to newer lines, and
/// would be in front of the last ones when inproxy exits.
const WINDOW: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tunnel::records::Record;

    fn outbox(lines: std::ops::RangeInclusive<u64>) -> Outbox {
        let outbox = Outbox::default();
        outbox.push_all(Source::Stdout, Level::Info, 0, lines.map(|n| n.to_string()));
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

    /// As [`sent`], of a peer that confirms what it gets.
    fn delivered(outbox: &Outbox) -> Vec<(u64, u64, String)> {
        let mut all = Vec::new();
        loop {
            let lines = sent(outbox);
            let Some((number, ..)) = lines.last() else { return all };
            outbox.confirm(*number);
            all.extend(lines);
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
        let bytes = outbox.lock().waiting.bytes();
        assert!((BOUND.bytes - 4000..=BOUND.bytes).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_flood_pushes_out_no_words_of_another_and_the_order_stays() {
        let outbox = Outbox::default();
        outbox.push(Source::Inproxy, Level::Warn, "a warning".into());
        outbox.push(Source::Stderr, Level::Info, "the end".into());
        let flood = (0..3 * MOST_LINES).map(|_| "y".to_owned());
        outbox.push_all(Source::Stdout, Level::Info, 0, flood);
        outbox.push(Source::Inproxy, Level::Error, "last words".into());
        let lines = delivered(&outbox);
        let most = MOST_LINES as u64;
        assert_eq!(lines.len() as u64, most);
        assert_eq!(lines[..2], [(1, 0, "a warning".into()), (2, 0, "the end".into())]);
        // It gave way to the others' lines, too.
        let missing = 2 * most + 3;
        assert_eq!(lines[2], (3 + missing, missing, "y".into()));
        assert_eq!(lines.last(), Some(&(3 * most + 3, 0, "last words".into())));
        assert_eq!(outbox.dropped(), missing);
    }

    #[test]
    fn a_flood_pushes_out_no_words_that_are_to_be_told_again() {
        let outbox = outbox(1..=100);
        outbox.push(Source::Stderr, Level::Info, "the end".into());
        assert_eq!(sent(&outbox).len(), 101);
        outbox.connect();
        let flood = (0..MOST_LINES).map(|_| "y".to_owned());
        outbox.push_all(Source::Stdout, Level::Info, 0, flood);
        let lines = delivered(&outbox);
        assert_eq!(lines[0], (101, 100, "the end".into()));
        let all = lines.len() as u64 + lines.iter().map(|line| line.1).sum::<u64>();
        assert_eq!((all, outbox.dropped()), (101 + MOST_LINES as u64, 101));
    }

    #[test]
    fn what_is_not_even_made_is_counted() {
        let outbox = outbox(1..=1);
        outbox.push_all(Source::Stdout, Level::Info, 30_000, ["y".to_owned()]);
        assert_eq!(sent(&outbox), [(1, 0, "1".into()), (30_002, 30_000, "y".into())]);
        assert_eq!(outbox.dropped(), 30_000);
    }

    #[test]
    fn nobody_waits_while_lines_are_made() {
        let outbox = Outbox::default();
        let texts = (0..100).map(|number| {
            assert!(outbox.state.try_lock().is_ok(), "line {number}");
            number.to_string()
        });
        outbox.push_all(Source::Stdout, Level::Info, 0, texts);
        assert_eq!(sent(&outbox).len(), 100);
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
        outbox.push_all(Source::Stdout, Level::Info, 0, more);
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
        outbox.push_all(Source::Stdout, Level::Info, 0, texts);
        let lines = sent(&outbox);
        assert!(outbox.lock().sent_bytes < WINDOW + 4000);
        assert!(outbox.sendable().now_or_never().is_none());
        outbox.confirm(lines[0].0);
        assert!(outbox.sendable().now_or_never().is_some());
        assert_eq!(sent(&outbox).len(), 1);
    }
}
