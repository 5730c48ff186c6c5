//! One destination, as those see it who connect to it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use tunnel::chain::Chain;

use super::announcer::Announcement;
use super::record::{FailureKind, Leave, Record, State};
use crate::dial::DialError;

/// A destination that is probed.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    record: Mutex<Record>,
    /// The next probe is due at another time than before.
    pub(super) rescheduled: Notify,
}

impl Target {
    /// One of which nothing is known.
    pub(super) fn new(address: SocketAddr) -> Self {
        let record = Mutex::new(Record::new(Instant::now()));
        Self { address, record, rescheduled: Notify::new() }
    }

    pub(super) fn state(&self) -> State {
        self.record().state
    }

    /// A client wants to connect.
    pub(super) fn admit(self: Arc<Self>, now: Instant) -> Result<Attempt, Down> {
        let leave = self.record().admit(now);
        match leave {
            Some(Leave::Free) => Ok(Attempt { target: self, began: now, purpose: Purpose::Client }),
            Some(Leave::Trial) => Ok(Attempt { target: self, began: now, purpose: Purpose::Trial }),
            None => Err(self.down(now, false)),
        }
    }

    /// A probe, if one is due and nobody else is at it.
    pub(super) fn probe(self: &Arc<Self>, now: Instant) -> Option<Attempt> {
        let target = Arc::clone(self);
        let begins = self.record().begin_probe(now);
        begins.then_some(Attempt { target, began: now, purpose: Purpose::Probe })
    }

    /// Logs what there was no line for when it happened.
    pub(super) fn announce_overdue(&self, now: Instant) {
        let announcement = self.record().overdue(now);
        self.announce(announcement);
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        // Nothing panics while it holds the lock.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self, now: Instant, was_tried: bool) -> Down {
        let record = self.record();
        let reason = record.last_failure.as_ref().map(|failure| Arc::clone(&failure.reason));
        let lasts = now.saturating_duration_since(record.since);
        Down { address: self.address, lasts, was_tried, reason: reason.unwrap_or_default() }
    }

    fn announce(&self, announcement: Option<Announcement>) {
        let Some(Announcement { changes }) = announcement else { return };
        let record = self.record();
        let (state, latency) = (record.state, record.latency);
        let failure = record.last_failure.as_ref().map(|failure| Arc::clone(&failure.reason));
        drop(record);
        let destination = self.address;
        let changes = (changes > 1).then_some(changes);
        if state == State::Down {
            tracing::warn!(%destination, reason = failure.as_deref(), changes, "destination down");
        } else {
            let seconds = latency.map(|latency| latency.as_secs_f64());
            tracing::info!(%destination, seconds, changes, "destination up");
        }
    }
}

/// An attempt to connect to a destination. What came of it is to be told.
#[derive(Debug)]
#[must_use = "an attempt of which nothing is told keeps others waiting for nothing"]
pub struct Attempt {
    target: Arc<Target>,
    began: Instant,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// A client's, of a destination that is not known to be down.
    Client,
    /// Nobody's but ours.
    Probe,
    /// A client's, of one that is.
    Trial,
}

impl Attempt {
    /// It succeeded.
    pub fn succeeded(self) {
        let announcement = self.target.record().succeed(self.began, Instant::now());
        self.target.announce(announcement);
    }

    /// It failed. If it was a trial, and tells that the destination is still down, that is what
    /// is returned.
    pub fn failed(self, error: &DialError) -> Option<Down> {
        let kind = kind_of(error)?;
        let now = Instant::now();
        let reason = Chain(error).to_string().into();
        let is_probe = self.purpose == Purpose::Probe;
        let announcement = self.target.record().fail(self.began, now, is_probe, kind, reason);
        self.target.announce(announcement);
        // A probe of it may be due much later than this failure demands.
        self.target.rescheduled.notify_one();
        let is_down = self.purpose == Purpose::Trial && kind != FailureKind::Local;
        is_down.then(|| self.target.down(now, true))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.purpose != Purpose::Client {
            self.target.record().release();
            self.target.rescheduled.notify_one();
        }
    }
}

/// What it tells of the destination, if anything.
fn kind_of(error: &DialError) -> Option<FailureKind> {
    match error {
        DialError::Local { .. } => Some(FailureKind::Local),
        DialError::Refused { .. } => Some(FailureKind::Refused),
        DialError::TimedOut { .. } => Some(FailureKind::TimedOut),
        DialError::Unreachable { .. } => Some(FailureKind::Unreachable),
        DialError::Dns(_) | DialError::Prohibited { .. } => None,
    }
}

/// A destination is down, and nobody waits for it.
#[derive(Clone, Debug, Error)]
pub struct Down {
    /// The destination.
    pub address: SocketAddr,
    /// How long it has been.
    pub lasts: Duration,
    /// Whether it was tried once more.
    pub was_tried: bool,
    /// What went wrong most recently.
    pub reason: Arc<str>,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, lasts, was_tried, reason } = self;
        let still = if *was_tried { "still " } else { "" };
        write!(f, "`{address}` is {still}down, since {}s: {reason}", lasts.as_secs())
    }
}
