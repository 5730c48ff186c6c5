//! What is logged and counted of connections: one line each, when they end.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::field::display;
use tunnel::chain::Chain;
use tunnel::connections::Stop;
use tunnel::destination::Destination;
use tunnel::listener::Peer;
use tunnel::log_limit::LogLimit;
use tunnel::metrics as names;
use tunnel::relay::Summary;

use crate::allowlist::Rule;
use crate::refusal::Refusal;

/// Writes down how connections end.
#[derive(Debug)]
pub struct Journal {
    refusals: LogLimit,
}

impl Default for Journal {
    fn default() -> Self {
        Self { refusals: LogLimit::new(REFUSALS_PER_SECOND) }
    }
}

impl Journal {
    /// A connection came to its end.
    pub(crate) fn ended(
        &self,
        client: Peer,
        destination: &Destination,
        address: SocketAddr,
        rule: &Rule,
        summary: &Summary<Stop>,
        duration: Duration,
    ) {
        let rule = rule.name.to_string();
        let outcome = summary.outcome.word();
        metrics::counter!(names::CONNECTIONS, "rule" => rule.clone(), "outcome" => outcome)
            .increment(1);
        metrics::counter!(names::BYTES, "direction" => "sent").increment(summary.sent);
        metrics::counter!(names::BYTES, "direction" => "received").increment(summary.received);
        tracing::info!(
            %client,
            %destination,
            %address,
            rule,
            outcome,
            cause = summary.outcome.cause().map(display),
            sent = summary.sent,
            received = summary.received,
            seconds = duration.as_secs_f64(),
            "connection ended",
        );
    }

    /// A connection was not made.
    pub(crate) fn refused(
        &self,
        client: Peer,
        destination: Option<&Destination>,
        refusal: &Refusal,
    ) {
        let outcome = refusal.word();
        metrics::counter!(names::CONNECTIONS, "rule" => "", "outcome" => outcome).increment(1);
        if self.refusals.admits() {
            let destination = destination.map(display);
            tracing::warn!(%client, destination, outcome, reason = %Chain(refusal), "connection refused");
        }
    }

    /// Reports each second how many refusals were not logged.
    pub async fn count_suppressed(&self) -> ! {
        let report = |lines| tracing::warn!(lines, "refusals not logged in the last second");
        self.refusals.refill(report).await
    }
}

const REFUSALS_PER_SECOND: u32 = 10;
