//! What a session knows of its tunnels and of its connection, and what its words do to it.

use std::collections::HashMap;
use std::task::{Context, Waker};

use foldhash::fast::RandomState;

use super::{BYE, ENDED, PING, PONG, RETIRING, Wire};

#[derive(Debug, Default)]
pub(super) struct State {
    /// Looked into for each message that is relayed.
    pub(super) tunnels: HashMap<u64, Registered, RandomState>,
    /// How many tunnels there have been.
    pub(super) registered: u64,
    /// Which of the connections so far is in use.
    pub(super) connected: Option<u64>,
    pub(super) connections: u64,
    expected: Expected,
    pub(super) connection: Option<Waker>,
    pub(super) words: Vec<u64>,
    pub(super) pong_waits: bool,
    /// Tunnels whose doubts the next [`PONG`] ends.
    pub(super) asking: Vec<u64>,
    /// Tunnels whose doubts are for the [`PING`] after that.
    pub(super) doubting: Vec<u64>,
    pub(super) leaving: bool,
    pub(super) over: bool,
}

/// All that a tunnel costs while it is idle, but for its place in the table.
#[derive(Debug, Default)]
pub(super) struct Registered {
    pub(super) relay: Option<Waker>,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Fate {
    Aborted,
    Doubted,
    #[default]
    Open,
    Trusted,
}

/// Whether the other process is about to connect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Expected {
    #[default]
    Never,
    Now,
    Past,
}

impl State {
    /// Whether it is expected from now on.
    pub(super) fn expect_connection(&mut self) -> bool {
        let may = self.expected == Expected::Never;
        if may {
            self.expected = Expected::Now;
        }
        may
    }

    /// Whoever connects later finds that all doubts are over.
    pub(super) fn expect_no_connection(&mut self) {
        if self.expected == Expected::Now {
            self.expected = Expected::Past;
            for number in std::mem::take(&mut self.doubting) {
                self.decide(number, Fate::Trusted);
            }
        }
    }

    /// Whether there is, or will be, who answers.
    pub(super) fn can_ask(&self) -> bool {
        self.connected.is_some() || self.expected == Expected::Now
    }

    pub(super) fn connect(&mut self) -> u64 {
        self.connections += 1;
        self.connected = Some(self.connections);
        self.expected = Expected::Past;
        self.wake_connection();
        // What was asked over an earlier connection is asked again.
        self.words.retain(|word| *word != PING);
        self.doubting.append(&mut self.asking);
        self.ask();
        self.connections
    }

    pub(super) fn disconnect(&mut self, lost: bool) {
        self.connected = None;
        self.over = true;
        self.words = Vec::new();
        (self.asking, self.doubting) = (Vec::new(), Vec::new());
        for tunnel in self.tunnels.values_mut() {
            if lost {
                tunnel.fate = Fate::Aborted;
            } else if tunnel.fate == Fate::Doubted {
                tunnel.fate = Fate::Trusted;
            } else {
                continue;
            }
            tunnel.wake();
        }
    }

    /// Moves what is to be said to an idle wire; `None` if another connection is in use. Says
    /// whether this process leaves.
    pub(super) fn poll_words(&mut self, cx: &Context<'_>, wire: &mut Wire) -> Option<bool> {
        if self.connected != Some(wire.connection) {
            return None;
        }
        if !self.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.connection = Some(cx.waker().clone());
        }
        if wire.outgoing.is_empty() {
            self.pong_waits = false;
            let words = std::mem::take(&mut self.words);
            wire.outgoing = words.into_iter().flat_map(u64::to_be_bytes).collect();
        }
        Some(self.leaving)
    }

    pub(super) fn say(&mut self, word: u64) {
        // A peer that does not read misses what its own time-outs will tell it.
        if word >= BYE || self.words.len() < MOST_WORDS {
            self.words.push(word);
            self.wake_connection();
        }
    }

    pub(super) fn wake_connection(&mut self) {
        if let Some(waker) = self.connection.take() {
            waker.wake();
        }
    }

    /// Whether it was the last word.
    pub(super) fn hear(&mut self, word: u64) -> bool {
        match word {
            PING if self.pong_waits => {}
            PING => {
                self.pong_waits = true;
                self.say(PONG);
            }
            PONG => {
                for number in std::mem::take(&mut self.asking) {
                    self.decide(number, Fate::Trusted);
                }
                self.ask();
            }
            RETIRING => self.over = true,
            BYE => return true,
            word if word & ENDED != 0 => self.decide(word & !ENDED, Fate::Trusted),
            number => self.decide(number, Fate::Aborted),
        }
        false
    }

    pub(super) fn decide(&mut self, number: u64, fate: Fate) {
        if let Some(tunnel) = self.tunnels.get_mut(&number)
            && tunnel.fate != Fate::Aborted
        {
            tunnel.fate = fate;
            tunnel.wake();
        }
    }

    /// Asks for all who doubt, unless that was asked and not answered yet: under load one question
    /// serves many.
    pub(super) fn ask(&mut self) {
        if self.connected.is_some() && self.asking.is_empty() && !self.doubting.is_empty() {
            self.asking = std::mem::take(&mut self.doubting);
            self.say(PING);
        }
    }
}

impl Registered {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.relay.take() {
            waker.wake();
        }
    }
}

/// How many words may wait for a peer that does not read.
const MOST_WORDS: usize = 4096;
