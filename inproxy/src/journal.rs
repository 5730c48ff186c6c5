//! What is logged and counted of connections: one line each, when they end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::display;
use tunnel::connections::Stop;
use tunnel::destination::Destination;
use tunnel::label::Label;
use tunnel::listener::Peer;
use tunnel::log_limit::LogLimit;
use tunnel::relay::Summary;

use crate::forwarder::Failure;

/// Writes down how connections end.
#[derive(Debug)]
pub struct Journal {
    failures: LogLimit,
    tally: Mutex<Tally>,
}

/// How many connections are over.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many ended with each outcome.
    pub ended: BTreeMap<&'static str, u64>,
    /// How many could not be made, by their outcome.
    pub failed: BTreeMap<&'static str, u64>,
    /// What clients sent over those that ended, in bytes.
    pub sent: u64,
    /// What clients received over those that ended, in bytes.
    pub received: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { failures: LogLimit::new(FAILURES_PER_SECOND), tally: Mutex::default() }
    }
}

impl Journal {
    /// A connection came to its end.
    pub(crate) fn ended(
        &self,
        client: Peer,
        destination: &Destination,
        forward: &Label,
        summary: &Summary<Stop>,
        duration: Duration,
    ) {
        let mut tally = self.lock();
        *tally.ended.entry(summary.outcome.word()).or_default() += 1;
        tally.sent += summary.sent;
        tally.received += summary.received;
        drop(tally);
        tracing::info!(
            %client,
            %destination,
            %forward,
            outcome = summary.outcome.word(),
            cause = summary.outcome.cause().map(display),
            sent = summary.sent,
            received = summary.received,
            seconds = duration.as_secs_f64(),
            "connection ended",
        );
    }

    /// A connection could not be made.
    pub(crate) fn failed(
        &self,
        client: Peer,
        destination: Option<&Destination>,
        failure: &Failure,
    ) {
        *self.lock().failed.entry(failure.word()).or_default() += 1;
        if self.failures.admits() {
            let destination = destination.map(display);
            let outcome = failure.word();
            let reason = failure.to_string();
            tracing::warn!(%client, destination, outcome, reason, "connection failed");
        }
    }

    /// How many connections are over.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        // Nothing panics while it holds the lock.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports each second how many failures were not logged.
    pub async fn count_suppressed(&self) -> ! {
        self.failures.refill(report).await
    }

    /// Reports those of the last second, which is the last.
    pub fn close(&self) {
        self.failures.settle(report);
    }
}

fn report(lines: u64) {
    tracing::warn!(lines, "failures not logged in the last second");
}

const FAILURES_PER_SECOND: u32 = 10;
