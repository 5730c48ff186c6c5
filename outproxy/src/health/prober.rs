//! The tasks that connect to destinations to see whether they are up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Health;
use super::target::Target;
use crate::dial::dial_address;

/// How many probes are made at once.
pub const MOST_AT_ONCE: usize = 32;

/// Probes destinations until it is dropped.
#[derive(Debug)]
pub struct Prober {
    tasks: HashMap<SocketAddr, Task>,
    limit: watch::Sender<Duration>,
    permits: Arc<Semaphore>,
}

impl Default for Prober {
    fn default() -> Self {
        let permits = Arc::new(Semaphore::new(MOST_AT_ONCE));
        Self { tasks: HashMap::new(), limit: watch::Sender::default(), permits }
    }
}

impl Prober {
    /// Probes these destinations from now on, and no others. None may take longer than `limit`.
    pub fn follow(&mut self, health: &Health, limit: Duration) {
        self.limit.send_replace(limit);
        let mut before = std::mem::take(&mut self.tasks);
        for target in health.targets() {
            let known = before.remove(&target.address);
            let task = known.filter(|task| Arc::ptr_eq(&task.target, target));
            let task = task.unwrap_or_else(|| self.start(target));
            self.tasks.insert(target.address, task);
        }
    }

    fn start(&self, target: &Arc<Target>) -> Task {
        let (limit, permits) = (self.limit.subscribe(), Arc::clone(&self.permits));
        let handle = tokio::spawn(watch(Arc::clone(target), limit, permits));
        Task { target: Arc::clone(target), handle }
    }
}

/// The probes of one destination.
#[derive(Debug)]
struct Task {
    target: Arc<Target>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

async fn watch(target: Arc<Target>, limit: watch::Receiver<Duration>, permits: Arc<Semaphore>) {
    loop {
        let due = target.record().probe_at();
        tokio::select! {
            // Clients that got through may have put it off meanwhile.
            () = sleep_until(due) => {}
            () = target.rescheduled.notified() => continue,
        }
        target.announce_overdue(Instant::now());
        // It is closed with the prober, and this task ends before.
        let Ok(permit) = permits.acquire().await else { return };
        let Some(attempt) = target.probe(Instant::now()) else {
            drop(permit);
            if target.record().probe_at() <= Instant::now() {
                // A client's trial is on its way, and will tell.
                target.rescheduled.notified().await;
            }
            continue;
        };
        let longest = *limit.borrow();
        match dial_address(target.address, longest, |_| true).await {
            Ok(stream) => {
                attempt.succeeded();
                drop(permit);
                stream.take_leave(LONGEST_LEAVE).await;
            }
            Err(error) => {
                attempt.failed(&error);
            }
        }
    }
}

/// A service that is well closes a connection when its client does.
const LONGEST_LEAVE: Duration = Duration::from_secs(1);
