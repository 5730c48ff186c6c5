//! The connections that are open: how many there may be, who waits for them, who may end them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::buffer;

/// All open connections of a proxy, each with the facts by which it may be judged again.
#[derive(Debug)]
pub struct Connections<F> {
    open: Mutex<Open<F>>,
    ended: Notify,
}

#[derive(Debug)]
struct Open<F> {
    entries: Slab<Arc<Entry<F>>>,
    most: usize,
}

#[derive(Debug)]
struct Entry<F> {
    facts: OnceLock<F>,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    reason: Option<Stop>,
    /// Who waits for it.
    waker: Option<Waker>,
}

/// Why a proxy ends a connection by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// A new policy no longer allows it.
    Disallowed,
    /// The proxy shuts down, and the grace period is over.
    Shutdown,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disallowed => "disallowed",
            Self::Shutdown => "shutdown",
        })
    }
}

impl<F> Connections<F> {
    /// None yet, and at most `most` at a time.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let open = Open { entries: Slab::new(), most };
        Arc::new(Self { open: Mutex::new(open), ended: Notify::new() })
    }

    /// Changes how many there may be. Those that are open stay.
    pub fn set_most(&self, most: usize) {
        self.lock().most = most;
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// Counts one more, until the returned value is dropped. `None` when there are too many.
    pub fn open(self: &Arc<Self>) -> Option<Connection<F>> {
        let mut open = self.lock();
        if open.entries.len() >= open.most {
            return None;
        }
        let entry = Arc::new(Entry { facts: OnceLock::new(), end: Mutex::default() });
        let place = open.entries.insert(Arc::clone(&entry));
        Some(Connection { all: Arc::clone(self), place, entry })
    }

    /// Stops every connection whose facts are known and `condemned`, and says how many.
    pub fn stop_if(&self, reason: Stop, condemned: impl Fn(&F) -> bool) -> usize {
        let open = self.lock();
        let stopped = open
            .entries
            .iter()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.facts.get().is_some_and(&condemned));
        stopped.map(|entry| entry.stop(reason)).count()
    }

    /// Waits until none is open, for `grace` or until `hurry` is ready; then stops those that are
    /// left, and says how many.
    pub async fn drain(&self, grace: Duration, hurry: impl Future) -> usize {
        tokio::select! {
            result = timeout(grace, self.none_open()) => if result.is_ok() { return 0 },
            _ = hurry => {}
        }
        let open: Vec<_> = self.lock().entries.iter().map(|(_, entry)| Arc::clone(entry)).collect();
        open.iter().for_each(|entry| entry.stop(Stop::Shutdown));
        let left = open.len();
        drop(open);
        // Whoever was stopped only has a line to log. What lingers then ends with the process.
        let _ = timeout(LAST_WORDS, self.none_open()).await;
        left
    }

    async fn none_open(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<F>> {
        // Nothing panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Entry<F> {
    fn stop(&self, reason: Stop) {
        let mut end = self.lock();
        // The first reason stands.
        end.reason.get_or_insert(reason);
        if let Some(waker) = end.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        // Nothing panics while it holds the lock.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection. Dropping it frees its place.
#[derive(Debug)]
pub struct Connection<F> {
    all: Arc<Connections<F>>,
    place: usize,
    entry: Arc<Entry<F>>,
}

impl<F> Connection<F> {
    /// Says by what the connection may be judged again; only the first call counts.
    ///
    /// Call it before the policy is asked, so that no reload comes between.
    pub fn set_facts(&self, facts: F) {
        let _ = self.entry.facts.set(facts);
    }

    /// By what the connection may be judged again, if that was said.
    #[must_use]
    pub fn facts(&self) -> Option<&F> {
        self.entry.facts.get()
    }

    /// Waits until the connection is to end. One at a time can wait.
    #[must_use]
    pub fn stopped(&self) -> Stopped<'_, F> {
        Stopped(&self.entry)
    }
}

/// Ready once a connection is to end. It is small, since every idle connection has one.
#[derive(Debug)]
pub struct Stopped<'a, F>(&'a Entry<F>);

impl<F> Future for Stopped<'_, F> {
    type Output = Stop;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stop> {
        let mut end = self.0.lock();
        if let Some(reason) = end.reason {
            return Poll::Ready(reason);
        }
        if !end.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            end.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<F> Drop for Connection<F> {
    fn drop(&mut self) {
        let mut open = self.all.lock();
        open.entries.remove(self.place);
        if open.entries.is_empty() {
            // After a burst the table would keep its largest size, and the pool as many as it may.
            open.entries = Slab::new();
            buffer::release_spare();
            self.all.ended.notify_waiters();
        }
    }
}

const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use std::future::pending;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_place_is_free_again_when_its_connection_is_dropped() {
        let connections = Connections::<()>::new(1);
        let first = connections.open().unwrap();
        assert!(connections.open().is_none());
        drop(first);
        assert!(connections.open().is_some());
    }

    #[test]
    fn no_more_than_a_buffer_is_kept_when_the_last_connection_is_dropped() {
        let connections = Connections::<()>::new(2);
        let [first, last] = [(); 2].map(|()| connections.open().unwrap());
        drop([(); 3].map(|()| Buffer::take()));
        drop(first);
        assert_eq!(buffer::pooled(), 3);
        drop(last);
        assert_eq!(buffer::pooled(), 1);
    }

    #[tokio::test]
    async fn only_the_condemned_are_stopped() {
        let connections = Connections::new(9);
        let [old, new, unknown] = [(); 3].map(|()| connections.open().unwrap());
        old.set_facts("old");
        new.set_facts("new");
        assert_eq!(connections.stop_if(Stop::Disallowed, |facts| *facts == "old"), 1);
        assert_eq!(old.stopped().await, Stop::Disallowed);
        assert!(timeout(Duration::ZERO, new.stopped()).await.is_err());
        assert!(timeout(Duration::ZERO, unknown.stopped()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_connection() {
        let connections = Connections::<()>::new(9);
        let last = connections.open().unwrap();
        let draining = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.drain(HOUR, pending::<()>()).await }
        });
        tokio::time::sleep(HOUR / 2).await;
        assert!(!draining.is_finished());
        drop(last);
        assert_eq!(draining.await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_hurried_stops_who_is_left() {
        let connections = Connections::<()>::new(9);
        let left = connections.open().unwrap();
        let stopped = tokio::spawn(async move { left.stopped().await });
        assert_eq!(connections.drain(HOUR, async {}).await, 1);
        assert_eq!(stopped.await.unwrap(), Stop::Shutdown);
    }
}
