//! The tasks that ask AWS, again and again, which HSMs clusters have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::answer::{Fault, Hsm, Listed};
use super::aws::Aws;
use super::{Cluster, ClusterId, Clusters, Followed};

/// How long after an answer that did not come the next one is asked for, more or less. It doubles
/// with each that follows.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// It is never more than this, nor than `poll-interval`.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Who can be asked for the HSMs of one cluster.
pub trait Api: Send + Sync + 'static {
    /// All of them, whatever their state.
    fn hsms(&self) -> impl Future<Output = Result<Vec<Hsm>, Fault>> + Send;
}

/// Asks for the HSMs of one cluster, once. Nothing, where this outproxy [cannot](super::IS_AVAILABLE).
///
/// # Errors
///
/// [`Fault`], within 10 s.
pub async fn ask(cluster: &Cluster) -> Option<Result<Listed, Fault>> {
    let answer = Aws::new(cluster)?.hsms().await;
    Some(answer.map(|hsms| Listed::new(&hsms)))
}

/// Follows clusters until it is dropped.
#[derive(Debug, Default)]
pub struct Followers {
    tasks: HashMap<ClusterId, Task>,
    changed: Arc<Notify>,
}

impl Followers {
    /// Follows these clusters from now on, and no others. An HSM that is gone keeps its connections
    /// for `grace`.
    pub fn follow(&mut self, clusters: &Clusters, grace: Duration) {
        let mut before = std::mem::take(&mut self.tasks);
        for (id, followed) in &clusters.followed {
            let known = before.remove(id).filter(|task| task.is_for(followed, grace));
            let start = || Some(self.start(followed, Aws::new(&followed.cluster)?, grace));
            if let Some(task) = known.or_else(start) {
                self.tasks.insert(id.clone(), task);
            }
        }
    }

    /// Ready once more is known than the policy that was made last could know.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn start(&self, followed: &Arc<Followed>, api: impl Api, grace: Duration) -> Task {
        let (followed, changed) = (Arc::clone(followed), Arc::clone(&self.changed));
        let following = follow(Arc::clone(&followed), api, grace, changed);
        Task { followed, grace, handle: tokio::spawn(following) }
    }
}

/// The questions about one cluster.
#[derive(Debug)]
pub(super) struct Task {
    followed: Arc<Followed>,
    grace: Duration,
    handle: JoinHandle<()>,
}

impl Task {
    pub(super) fn is_for(&self, followed: &Followed, grace: Duration) -> bool {
        let Followed { cluster, record } = followed;
        Arc::ptr_eq(&self.followed.record, record)
            && (&self.followed.cluster, self.grace) == (cluster, grace)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

async fn follow(followed: Arc<Followed>, api: impl Api, grace: Duration, changed: Arc<Notify>) {
    let interval = followed.cluster.interval;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let answer = api.hsms().await;
        let pause = if answer.is_ok() {
            backoff = FIRST_BACKOFF;
            interval
        } else {
            let pause = backoff.min(interval);
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            pause
        };
        if followed.take(answer.as_deref(), grace) {
            changed.notify_one();
        }
        let due = Instant::now() + pause.mul_f64(0.9 + fastrand::f64() / 5.0);
        loop {
            let expiry = followed.lock().next_expiry(grace).filter(|expiry| *expiry < due);
            let Some(expiry) = expiry else { break };
            sleep_until(expiry).await;
            if followed.expire(grace) {
                changed.notify_one();
            }
        }
        sleep_until(due).await;
    }
}
