//! Which HSMs the clusters have that rules follow, as AWS tells.
//!
//! What is known of a cluster is one record, to which its [follower](Followers) writes. The rules of
//! the policy have what was known when the policy was made; whenever that changes, there is a new
//! policy. The records belong to the policies, which hand them on; a reload keeps them.

mod answer;
#[cfg_attr(not(feature = "cloudhsm"), path = "clusters/no_aws.rs")]
mod aws;
mod cluster;
mod follower;
mod metrics;
mod record;
pub mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::answer::{Fault, FaultKind, Hsm, Listed, Members, Stage};
pub use self::cluster::{Cluster, ClusterError, ClusterId, EndpointUrl, Region};
pub use self::follower::{Api, FIRST_BACKOFF, Followers, LONGEST_BACKOFF, ask};
pub use self::status::ClusterStatus;

use self::record::{News, Record};
use crate::allowlist::Allowlist;
use tokio::time::Instant;

/// Whether this outproxy can ask AWS.
pub const IS_AVAILABLE: bool = cfg!(feature = "cloudhsm");

/// All clusters that are followed.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    followed: BTreeMap<ClusterId, Arc<Followed>>,
}

impl Clusters {
    /// Those that `allowlist` follows; what this knows of them stays known.
    #[must_use]
    pub fn reloaded(&self, allowlist: &Allowlist) -> Self {
        let mut followed = BTreeMap::new();
        for cluster in allowlist.rules().iter().filter_map(|rule| rule.cluster.as_ref()) {
            followed.entry(cluster.id.clone()).or_insert_with(|| {
                let known = self.followed.get(&cluster.id);
                let record = known.filter(|known| known.cluster.is_same(cluster));
                let record = record.map(|known| Arc::clone(&known.record));
                let record = record.unwrap_or_default();
                Arc::new(Followed { cluster: Arc::clone(cluster), record })
            });
        }
        Self { followed }
    }

    /// Lets the rules of `allowlist` have the addresses that are known.
    pub fn fill(&self, allowlist: &mut Allowlist) {
        allowlist.set_members(|cluster| {
            self.followed.get(&cluster.id).and_then(|followed| followed.lock().members.clone())
        });
    }

    /// Why AWS has not told anything of a cluster, if that is known.
    #[must_use]
    pub fn last_fault(&self, id: &ClusterId) -> Option<Fault> {
        let record = self.followed.get(id)?.lock();
        record.last_fault.as_ref().map(|(fault, _)| fault.clone())
    }
}

/// A cluster that is followed.
#[derive(Debug)]
struct Followed {
    cluster: Arc<Cluster>,
    record: Arc<Mutex<Record>>,
}

impl Followed {
    /// AWS was asked; says whether connections are to be decided about otherwise than before.
    fn take(&self, answer: Result<&[Hsm], &Fault>, grace: Duration) -> bool {
        let news = self.lock().take(answer, Instant::now(), grace);
        self.announce(&news, answer.err());
        news.is_change
    }

    /// The same, after some time without an answer.
    fn expire(&self, grace: Duration) -> bool {
        let gone = self.lock().expire(Instant::now(), grace);
        let news = News { is_change: !gone.is_empty(), gone, ..News::default() };
        self.announce(&news, None);
        news.is_change
    }

    fn announce(&self, news: &News, fault: Option<&Fault>) {
        let cluster = self.cluster.id.as_str();
        match fault {
            Some(Fault { reason, .. }) if news.is_turn => {
                tracing::warn!(cluster, %reason, "failed to ask AWS for the HSMs of a cluster");
            }
            None if news.is_turn => tracing::info!(cluster, "AWS tells the HSMs of a cluster"),
            _ => {}
        }
        for address in &news.skipped {
            tracing::warn!(cluster, %address, "address of an HSM skipped, since no HSM can have it");
        }
        for address in &news.allowed {
            tracing::info!(cluster, %address, "HSM allowed");
        }
        for address in &news.draining {
            tracing::info!(cluster, %address, "HSM drains: it is being deleted, or gone");
        }
        for address in &news.gone {
            tracing::info!(cluster, %address, "HSM gone; its connections are ended");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // Nothing panics while it holds the lock.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
