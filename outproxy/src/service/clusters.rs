//! Connections that cannot be decided about before AWS has told which HSMs there are.

use std::time::Duration;

use tokio::time::timeout;
use tunnel::destination::Destination;
use tunnel::endpoint::Cid;

use super::Service;
use crate::refusal::Refusal;

impl Service {
    /// Waits until AWS has told the HSMs on which it depends whether there is a rule for this
    /// connection.
    pub(super) async fn await_clusters(
        &self,
        cid: Option<Cid>,
        destination: &Destination,
    ) -> Result<(), Refusal> {
        let awaited = || {
            let policy = self.policy.load();
            policy.allowlist.awaits(cid, destination).map(|cluster| cluster.id.clone())
        };
        let Some(cluster) = awaited() else { return Ok(()) };
        let limit = self.policy.load().limits.header_timeout.min(LONGEST_WAIT_FOR_AWS);
        let known = async {
            loop {
                // Made before the policy is looked at, so that no change is missed.
                let changed = self.changed.notified();
                if awaited().is_none() {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, known).await.map_err(|_| {
            let fault = self.policy.load().clusters.last_fault(&cluster);
            let reason = fault.map_or_else(|| SILENT_AWS.into(), |fault| fault.reason);
            Refusal::HsmsUnknown { cluster, reason }
        })
    }
}

/// How long a client waits for AWS to tell for the first time which HSMs a cluster has; and never
/// longer than `header-timeout`, since the client has time-outs, too.
const LONGEST_WAIT_FOR_AWS: Duration = Duration::from_secs(5);
const SILENT_AWS: &str = "AWS has not answered";
