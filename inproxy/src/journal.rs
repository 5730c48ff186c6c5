//! What is logged and counted of connections: one line each, when they end.

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
}

impl Default for Journal {
    fn default() -> Self {
        Self { failures: LogLimit::new(FAILURES_PER_SECOND) }
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
        if self.failures.admits() {
            let destination = destination.map(display);
            let outcome = failure.word();
            let reason = failure.to_string();
            tracing::warn!(%client, destination, outcome, reason, "connection failed");
        }
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
