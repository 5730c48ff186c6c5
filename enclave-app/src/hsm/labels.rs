//! A lock for each label.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::label::KeyLabel;
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// The locks that somebody has or wants. The others do not exist.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(Arc<Mutex<HashMap<KeyLabel, Arc<Lock<()>>>>>);

impl Labels {
    /// Waits until nobody else has this label. First come, first served.
    pub(super) async fn lock(&self, label: &KeyLabel) -> LabelGuard {
        let lock = Arc::clone(self.locks().entry(label.clone()).or_default());
        let entry = Entry { labels: self.clone(), label: label.clone() };
        LabelGuard { _guard: lock.lock_owned().await, _entry: entry }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<KeyLabel, Arc<Lock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps all others away from a label.
#[derive(Debug)]
pub(super) struct LabelGuard {
    // Unlocks before the entry looks whether anybody waits.
    _guard: OwnedMutexGuard<()>,
    _entry: Entry,
}

/// Somebody's interest in a lock, whether he has it or waits for it.
#[derive(Debug)]
struct Entry {
    labels: Labels,
    label: KeyLabel,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut locks = self.labels.locks();
        // Whoever has or awaits the lock shares it with the map.
        if locks.get(&self.label).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.label);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{Either, join, join_all, select};
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_label_has_one_owner_at_a_time() {
        let (labels, label) = (Labels::default(), label("a"));
        let guard = labels.lock(&label).await;
        let mut second = pin!(labels.lock(&label));
        assert!(pending(second.as_mut()).await);
        drop(guard);
        second.await;
    }

    #[tokio::test]
    async fn other_labels_do_not_wait() {
        let labels = Labels::default();
        let _guards = join(labels.lock(&label("a")), labels.lock(&label("b"))).await;
    }

    #[tokio::test]
    async fn whoever_waits_longest_is_next() {
        let (labels, label) = (Labels::default(), label("a"));
        let guard = labels.lock(&label).await;
        let mut second = pin!(labels.lock(&label));
        let mut third = pin!(labels.lock(&label));
        assert!(pending(second.as_mut()).await && pending(third.as_mut()).await);
        drop(guard);
        assert!(pending(third.as_mut()).await);
        drop(second.await);
        third.await;
    }

    #[tokio::test]
    async fn locks_that_nobody_wants_do_not_exist() {
        let (labels, label) = (Labels::default(), label("a"));
        let guard = labels.lock(&label).await;
        {
            let waiting = pin!(labels.lock(&label));
            assert!(pending(waiting).await);
        }
        assert_eq!(labels.locks().len(), 1, "the owner is still there");
        drop(guard);
        assert_eq!(labels.locks().len(), 0);
    }

    #[tokio::test]
    async fn a_thousand_owners_leave_nothing_behind() {
        let labels = Labels::default();
        let all = (0..1000).map(|n| {
            let labels = labels.clone();
            async move {
                let _guard = labels.lock(&label(&(n % 7).to_string())).await;
                yield_now().await;
            }
        });
        join_all(all).await;
        assert!(labels.locks().is_empty());
    }

    async fn pending<F: Future + Unpin>(future: F) -> bool {
        let now = pin!(yield_now());
        matches!(select(future, now).await, Either::Right(_))
    }

    fn label(text: &str) -> KeyLabel {
        text.parse().unwrap()
    }
}
