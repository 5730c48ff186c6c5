//! What is logged and counted of connections: one line each, when they end.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::display;
use tunnel::chain::Chain;
use tunnel::connections::Stop;
use tunnel::destination::Destination;
use tunnel::listener::Peer;
use tunnel::log_limit::LogLimit;
use tunnel::metrics as names;
use tunnel::relay::{Outcome, Side, Summary};

use crate::allowlist::{Rule, RuleName};
use crate::outcomes::{Outcomes, Over};
use crate::refusal::Refusal;
use crate::tally::Tally;

/// Writes down how connections end.
#[derive(Debug)]
pub struct Journal {
    refusals: LogLimit,
    tally: Mutex<Tally>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { refusals: LogLimit::new(REFUSALS_PER_SECOND), tally: Mutex::default() }
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
        let outcome = summary.outcome.word();
        let mut tally = self.lock();
        tally.outcomes.count(client.cid(), Some(&rule.name), Over::Ended(outcome));
        if let Outcome::Aborted(Side::Upstream, error) = &summary.outcome {
            tally.fail(destination, Some(&rule.name), outcome, error.to_string());
        }
        drop(tally);
        tracing::info!(
            %client,
            %destination,
            %address,
            rule = rule.name.as_str(),
            outcome,
            cause = summary.outcome.cause().map(display),
            sent = summary.sent,
            received = summary.received,
            seconds = duration.as_secs_f64(),
            "connection ended",
        );
    }

    /// A connection was not made, though `rule` may allow it.
    pub(crate) fn refused(
        &self,
        client: Peer,
        destination: Option<&Destination>,
        rule: Option<&Rule>,
        refusal: &Refusal,
    ) {
        let outcome = refusal.word();
        let reason = Chain(refusal).to_string();
        let mut tally = self.lock();
        let rule = rule.map(|rule| &rule.name);
        tally.outcomes.count(client.cid(), rule, Over::Refused(outcome));
        if let Some(destination) = destination {
            tally.fail(destination, rule, outcome, reason.clone());
        }
        drop(tally);
        metrics::counter!(names::REFUSALS, "reason" => refusal.reason()).increment(1);
        if self.refusals.admits() {
            let rule = rule.map(RuleName::as_str);
            let destination = destination.map(display);
            tracing::warn!(%client, destination, rule, outcome, reason, "connection refused");
        }
    }

    /// What is remembered of connections that are over.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// How many connections are over.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.lock().outcomes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        // Nothing panics while it holds the lock.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports each second how many refusals were not logged.
    pub async fn count_suppressed(&self) -> ! {
        self.refusals.refill(report).await
    }

    /// Reports those of the last second, which is the last.
    pub fn close(&self) {
        self.refusals.settle(report);
    }
}

fn report(lines: u64) {
    tracing::warn!(lines, "refusals not logged in the last second");
}

const REFUSALS_PER_SECOND: u32 = 10;
