//! What is logged of connections and requests: never what is in them, but for labels.

use std::error::Error;
use std::time::Duration;

use protocol::answer::Failure;
use protocol::label::KeyLabel;
use tunnel::chain::Chain;
use tunnel::listener::Peer;
use tunnel::log_limit::LogLimit;

/// The log of all connections.
#[derive(Debug)]
pub(crate) struct Journal {
    /// What anybody can cause, at any rate, without asking for anything.
    noise: LogLimit,
}

impl Default for Journal {
    fn default() -> Self {
        Self { noise: LogLimit::new(NOISE_PER_SECOND) }
    }
}

impl Journal {
    /// A request was answered, after so much time.
    pub(crate) fn answered(
        &self,
        client: Peer,
        action: &str,
        label: Option<&KeyLabel>,
        failure: Option<&Failure>,
        duration: Duration,
    ) {
        let outcome = failure.map_or("ok", |failure| failure.code.name());
        let reason = failure.map(|failure| failure.message.as_str());
        let label = label.map(KeyLabel::as_str);
        let seconds = duration.as_secs_f64();
        // Values that are strings are escaped and quoted, unlike what is only displayed.
        tracing::info!(%client, action, label, outcome, reason, seconds, "request answered");
    }

    /// Something that is no request was answered.
    pub(crate) fn refused(&self, client: Peer, failure: &Failure) {
        if self.noise.admits() {
            let (outcome, reason) = (failure.code.name(), failure.message.as_str());
            tracing::warn!(%client, outcome, reason, "request refused");
        }
    }

    /// A client is gone before it had its answer, or had asked.
    pub(crate) fn lost(&self, client: Peer, error: &dyn Error) {
        if self.noise.admits() {
            tracing::info!(%client, error = %Chain(error), "client lost");
        }
    }

    /// Reports each second how many lines were not logged.
    pub(crate) async fn count_suppressed(&self) -> ! {
        self.noise.refill(report).await
    }

    /// Reports those of the last second, which is the last.
    pub(crate) fn close(&self) {
        self.noise.settle(report);
    }
}

fn report(lines: u64) {
    tracing::warn!(lines, "refusals not logged in the last second");
}

const NOISE_PER_SECOND: u32 = 10;
